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

// Without `with_input` the process gets no stream from us: whoever starts it gives it a /dev/null.
Result<StdioPipes> make_stdio_pipes(bool with_input);

// A pipe for output, wide while its reader finds it full or does not read, and else as it was made: the pages of all pipes of
// root's count together, and once they are more than fs.pipe-user-pages-soft, 64 MiB, every process of root's without
// CAP_SYS_RESOURCE and CAP_SYS_ADMIN, in whatever container, gets pipes of 8 KiB.
class PipeWidth {
 public:
  // So many bytes were read at once.
  void follow(int pipe, size_t count);
  // Nobody reads at the moment, and its writer is to go on as long as it can.
  void widen(int pipe);

 private:
  bool wide_ = false;
};

// `what` is for the error.
Result<Fd> duplicate(const Fd& fd, const char* what);

// A terminal's slave, to be held while its process lives: the master says EIO, as at the end, whenever nobody has one
// open, and a process may close its own and open it again. None where an OCI runtime's terminal has no slave of this kind;
// the first EIO is then the end.
Fd open_slave(const Fd& terminal);

// Sets a terminal's size.
Status resize_terminal(int terminal, uint16_t columns, uint16_t rows);

// Writes a client's bytes into a process's stdin.
class InputPipe {
 public:
  enum class Target { pipe, terminal, socket };

  // `when_room` is called when there is room again, and once when the last byte before end() is out.
  static Result<std::unique_ptr<InputPipe>> open(Loop& loop, Fd fd, Target target, Loop::Task when_room);
  InputPipe(Fd fd, Target target, Loop::Task when_room)
      : fd_(std::move(fd)), target_(target), when_room_(std::move(when_room)) {}

  // Takes all of it; what the process does not read at once is kept. Pause the source while !has_room().
  void write(std::string_view bytes);
  // The same of what `client` has sent, which is paused then.
  void write_from(Connection& client, std::string_view bytes);
  // With what a connection may have read ahead (128 KiB) this stays below its bound of 256 KiB.
  bool has_room() const { return pending_.size() <= (64 << 10); }
  bool is_idle() const { return pending_.empty(); }
  // End of input behind what is pending: closes the pipe, half-closes the socket, types the terminal's end-of-file
  // character (a terminal without line editing has no end of file), behind which others may type on.
  void end();

 private:
  void flush();
  void finish();
  // What types the end of file into the terminal; nothing when it does no line editing.
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
  // Ends the stream behind what stands in the pipe now (somebody else may keep it open for ever).
  void end_behind_present();
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
