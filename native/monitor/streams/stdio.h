// The monitor's ends of a process's standard streams: pipes, the master of its terminal, or a socket in the pod.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "monitor/server/connection.h"
#include "monitor/server/loop.h"
#include "monitor/setup/child.h"

namespace keelson {

struct StdioPipes {
  Stdio theirs;
  Fd in;  // ours, non-blocking; none without input
  Fd out;
  Fd err;
};

// Without `with_input` there is no pipe for stdin: the function that starts the process opens /dev/null.
Result<StdioPipes> make_stdio_pipes(bool with_input);

// The size of an output pipe: large while the reader finds it full or does not read, otherwise the default. The pages
// of all pipes of root are counted together; above fs.pipe-user-pages-soft (64 MiB), every process of root without
// CAP_SYS_RESOURCE and CAP_SYS_ADMIN, in any container, gets pipes of 8 KiB.
class PipeWidth {
 public:
  // Adapts the size to the number of bytes in one read.
  void follow(int pipe, size_t count);
  // Reading is paused: lets the writer write as much as possible before it blocks.
  void widen(int pipe);

 private:
  bool wide_ = false;
};

// `what` names the descriptor in the error.
Result<Fd> duplicate(const Fd& fd, const char* what);

// A terminal's slave, kept open while the process runs: the master returns EIO, as at the end, whenever no slave is
// open, and a process may close its slave and reopen it. Invalid if an OCI runtime's terminal has no such slave; then
// the first EIO is the end.
Fd open_slave(const Fd& terminal);

Status resize_terminal(int terminal, uint16_t columns, uint16_t rows);

// Writes a client's bytes into a process's stdin.
class InputPipe {
 public:
  enum class Target { pipe, terminal, socket };

  // `when_room` is called when there is room again, and once after the last byte before end() is written.
  static Result<std::unique_ptr<InputPipe>> open(Loop& loop, Fd fd, Target target, Loop::Task when_room);
  InputPipe(Fd fd, Target target, Loop::Task when_room)
      : fd_(std::move(fd)), target_(target), when_room_(std::move(when_room)) {}

  // Accepts all bytes, and buffers those that the process does not read at once. Pause the source while !has_room().
  void write(std::string_view bytes);
  // The same for bytes from `client`, which is paused while there is no room.
  void write_from(Connection& client, std::string_view bytes);
  // Together with a connection's read-ahead (128 KiB) this stays below its limit of 256 KiB.
  bool has_room() const { return pending_.size() <= (64 << 10); }
  bool is_idle() const { return pending_.empty(); }
  // Ends the input after the pending bytes: closes the pipe, half-closes the socket, or writes the terminal's
  // end-of-file character (a terminal without line editing has none), after which other clients may continue to write.
  void end();

 private:
  void flush();
  void finish();
  // The terminal's end-of-file character; empty if it does no line editing.
  std::string end_of_file() const;

  Fd fd_;
  Target target_;
  Loop::Task when_room_;
  Loop::Watch watch_;
  std::string pending_;
  bool ending_ = false;
};

// Reads a process's output into a connection, no faster than the client reads.
class OutputPump {
 public:
  // `connection` outlives the pump.
  OutputPump(Loop& loop, Connection& connection, FrameType type, Fd fd)
      : loop_(loop), connection_(connection), type_(type), fd_(std::move(fd)) {}
  // `on_end` is called once, at the end of the stream.
  Status open(Loop::Task on_end);
  // The connection has room again.
  void resume();
  // Ends the stream after the bytes that are in the pipe now (another process may keep it open forever).
  void end_after_pending();
  bool ended() const { return !fd_; }

 private:
  void read_some();
  void finish();

  Loop& loop_;
  Connection& connection_;
  FrameType type_;
  Fd fd_;
  PipeWidth width_;
  Loop::Watch watch_;
  Loop::Task on_end_;
  bool bounded_ = false;
  size_t left_ = 0;  // bytes still to read, when bounded
};

}  // namespace keelson
