// A running container's streams: its output goes to its log and to the attached clients, the clients' input to its
// stdin.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "monitor/server/connection.h"
#include "monitor/streams/output_reader.h"
#include "monitor/streams/stdio.h"

namespace keelson {

class Container;

// The clients that are attached to a container.
class AttachedClients {
 public:
  void add(std::weak_ptr<Connection> client, bool has_input);
  // A client without room for the output is detached, so that it blocks neither the log nor the other clients. The
  // container's last output always fits, even if its pipes were full.
  void send(FrameType type, std::string_view bytes, bool is_last);
  // Whether a client with stdin has no room: such clients pause the container's output, as a slow terminal does.
  bool blocks_output() const;
  // Detaches the clients that block the output.
  void detach_blocking();
  bool none_connected() const;
  // The container's stdin accepts bytes again: resumes the clients, as long as it has room.
  void resume_input(const InputPipe& input) const;
  // The container has exited.
  void reply(int exit_code) const;

 private:
  struct Client {
    std::weak_ptr<Connection> connection;
    bool has_input;
  };

  std::vector<Client> clients_;
};

// The monitor's side of the streams; the output is read on the log thread (output_reader.h).
class ContainerStreams : public std::enable_shared_from_this<ContainerStreams> {
 public:
  ContainerStreams(Loop& loop, LogThread& thread, std::shared_ptr<OutputReader> reader)
      : loop_(loop), thread_(thread), reader_(std::move(reader)) {}

  // Starts to transfer the terminal's bytes, or those of the pipes if there is no terminal. If this fails, streams that
  // were opened before keep working.
  Status open(Fd terminal, StdioPipes pipes, bool with_input);

  Status resize(uint16_t columns, uint16_t rows);
  void reopen_log(DoneStatus done);
  void attach(std::weak_ptr<Connection> client, bool has_input);
  const AttachedClients& attached() const { return attached_; }
  // A client that may have blocked the output has room again or has disconnected.
  void resume_output();
  // Null if the container has no stdin.
  InputPipe* input() { return input_.get(); }

  // The container's init is dead. The reader reads the remaining output, for at most a second (other processes may keep
  // the pipes open), and `on_end` is called once the log is written. If the log's file system does not answer, it is
  // called after 5 seconds with an incomplete log; the rest is written later if the monitor is still running.
  void finish(std::move_only_function<void(bool is_log_complete)> on_end);

  // Called by the reader.
  void on_output(Stream stream, std::string_view bytes);
  void on_output_end() { end(true); }

 private:
  void read_output(Fd out, Fd err);
  Status open_input(Fd fd, InputPipe::Target target);
  void pause_output();
  void resume_reader();
  void end(bool is_log_complete);
  void ask_reader(std::move_only_function<void(OutputReader&)> work);

  Loop& loop_;
  LogThread& thread_;
  std::shared_ptr<OutputReader> reader_;
  Fd terminal_;
  Fd held_slave_;  // until the init's death
  std::unique_ptr<InputPipe> input_;
  AttachedClients attached_;
  bool is_output_paused_ = false;
  Loop::Timer slow_client_timer_;
  bool ending_ = false;  // the init is dead
  Loop::Timer output_deadline_;
  Loop::Timer log_deadline_;
  std::move_only_function<void(bool)> on_end_;
};

// Answers STARTED and attaches `client` to the container, or fails. With `stdin_once` the container's stdin is closed
// when the first client attached to it disconnects, unless it is a terminal.
Status attach(const std::shared_ptr<Connection>& client, std::shared_ptr<Container> container, bool with_input);

}  // namespace keelson
