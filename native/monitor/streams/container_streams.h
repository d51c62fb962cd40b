// A running container's streams: what it writes goes into its log and to each attached client, what those write goes
// to its stdin.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "monitor/server/connection.h"
#include "monitor/streams/output_reader.h"
#include "monitor/streams/stdio.h"

namespace keelson {

class Container;

// The clients that attach() has joined to a container.
class AttachedClients {
 public:
  void add(std::weak_ptr<Connection> client, bool types);
  // A client that only watches must read in time: no room for output means it is cut off, for it may hold up neither the
  // log nor its neighbours. Of the container's last output there is room for all that pipes hold.
  void send(FrameType type, std::string_view bytes, bool is_last);
  // Whether one has to read before there is more: for those that type the container waits, as for who reads a terminal.
  bool hold_up_output() const;
  // Cuts off those that do.
  void detach_those();
  bool are_none() const;
  // The container's stdin takes bytes again: they go on for as long as it does.
  void resume_input(const InputPipe& input) const;
  // The container has exited.
  void reply(int exit_code) const;

 private:
  struct Client {
    std::weak_ptr<Connection> connection;
    bool types;
  };

  std::vector<Client> clients_;
};

// The monitor's side of the streams; the output is read on the log thread (output_reader.h).
class ContainerStreams : public std::enable_shared_from_this<ContainerStreams> {
 public:
  ContainerStreams(Loop& loop, LogThread& thread, std::shared_ptr<OutputReader> reader)
      : loop_(loop), thread_(thread), reader_(std::move(reader)) {}

  // Starts to carry what `terminal` has, or where there is none the pipes. On failure the streams before go on.
  Status open(Fd terminal, StdioPipes pipes, bool with_input);

  Status resize(uint16_t columns, uint16_t rows);
  void reopen_log(DoneStatus done);
  void attach(std::weak_ptr<Connection> client, bool types);
  const AttachedClients& attached() const { return attached_; }
  // A client that may have held up the output has room again, or has gone.
  void resume_output();
  // Null: there is none.
  InputPipe* input() { return input_.get(); }

  // The container's init is dead. Lets the reader read what it left, waits for the ends of its output (others may hold the
  // pipes) for at most a second, and until the log is written, and calls `on_end`. A log whose file system does not answer
  // is waited for 5 seconds and is not complete then; what is missing follows if the monitor lives that long.
  void finish(std::move_only_function<void(bool is_log_complete)> on_end);

  // From the reader.
  void on_output(Stream stream, std::string_view bytes);
  void on_output_end() { end(true); }

 private:
  void read_output(Fd out, Fd err);
  Status open_input(Fd fd, InputPipe::Target target);
  void hold_up_output();
  void let_reader_go_on();
  void end(bool is_log_complete);
  void ask_reader(std::move_only_function<void(OutputReader&)> work);

  Loop& loop_;
  LogThread& thread_;
  std::shared_ptr<OutputReader> reader_;
  Fd terminal_;
  Fd held_slave_;  // until the init's death
  std::unique_ptr<InputPipe> input_;
  AttachedClients attached_;
  bool held_up_ = false;
  Loop::Timer patience_;  // with clients that hold up the output
  bool ending_ = false;   // the init is dead
  Loop::Timer output_deadline_;
  Loop::Timer log_deadline_;
  std::move_only_function<void(bool)> on_end_;
};

// Answers STARTED and joins `client` to the container, or fails. A container's stdin that is
// open once (`stdin_once`) ends with the first client that was attached to it, if it is no terminal.
Status attach(const std::shared_ptr<Connection>& client, std::shared_ptr<Container> container, bool with_input);

}  // namespace keelson
