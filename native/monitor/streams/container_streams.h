// A running container's streams: what it writes goes into its log and to each attached client, what those write goes
// to its stdin.
#pragma once

#include <array>
#include <memory>
#include <string_view>
#include <vector>

#include "monitor/server/connection.h"
#include "monitor/streams/cri_log.h"
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
  bool any_types() const;
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

class ContainerStreams {
 public:
  // `log` is null for a container without a log: its output is still read, for the pipe must not fill.
  ContainerStreams(Loop& loop, std::unique_ptr<Log> log);

  // Starts to carry what `terminal` has, or where there is none the pipes. On failure the streams before go on.
  Status open(Fd terminal, StdioPipes pipes, bool with_input);

  Status resize(uint16_t columns, uint16_t rows);
  void reopen_log(DoneStatus done);
  AttachedClients& attached() { return attached_; }
  // A client that may have held up the output has room again, or has gone.
  void resume_output();
  // Null: there is none.
  InputPipe* input() { return input_.get(); }

  // The container's init is dead. Reads what it left, then waits for the ends of its output (others may hold the pipes) for
  // at most a second, ends the log, waits until that is written, and calls `on_end`, perhaps at once. A disk that does not
  // answer is waited for 5 seconds in all; then the rest of the output is lost.
  void finish(Loop::Task on_end);

 private:
  struct Source {
    Fd fd;
    PipeWidth width;
    Loop::Watch watch;
    int reads_after_exit = 0;
  };

  Status open_output(Fd out, Fd err);
  Status open_input(Fd fd, InputPipe::Target target);
  bool read_some(Stream stream);
  bool must_wait();
  void wait_for_client();
  void follow_output();
  void on_log_progress();
  void read_rest();
  void close_output();
  void close(Stream stream);
  void check_end();

  Loop& loop_;
  std::unique_ptr<Log> log_;
  std::array<Source, 2> sources_;
  Fd terminal_;
  Fd held_slave_;  // until the init's death
  std::unique_ptr<InputPipe> input_;
  AttachedClients attached_;
  bool waits_for_client_ = false;
  Loop::Timer patience_;  // with clients that hold up the output
  bool waits_for_log_ = false;
  bool ending_ = false;         // the init is dead
  bool has_read_rest_ = false;  // who else holds the pipes has had its second
  Loop::Timer output_deadline_;
  Loop::Timer log_deadline_;
  Loop::Task on_end_;
};

// Answers STARTED and joins `client` to the container, or fails. A container's stdin that is
// open once (`stdin_once`) ends with the first client that was attached to it, if it is no terminal.
Status attach(const std::shared_ptr<Connection>& client, std::shared_ptr<Container> container, bool with_input);

}  // namespace keelson
