// Writes a client's bytes into a process's stdin: a pipe, or the master of its terminal.
#pragma once

#include <string>
#include <string_view>

#include "monitor/server/loop.h"

namespace keelson {

class InputPipe {
 public:
  enum class Target { pipe, terminal, socket };

  InputPipe(Loop& loop, Fd fd, Target target) : loop_(loop), fd_(std::move(fd)), target_(target) {}
  Status open();

  // Takes all of it; what the process does not read at once is kept. Pause the source while !has_room().
  void write(std::string_view bytes);
  // With what a connection may have read ahead (128 KiB) this stays below its bound of 256 KiB.
  bool has_room() const { return pending_.size() <= (64 << 10); }
  bool is_idle() const { return pending_.empty(); }
  // End of input behind what is pending: closes the pipe, half-closes the socket, types the
  // terminal's end-of-file character (a terminal without line editing has no end of file).
  void end();
  // Called when there is room again, and once when the last byte before end() is out.
  void when_room(Loop::Task task) { when_room_ = std::move(task); }

 private:
  void flush();
  void finish();

  Loop& loop_;
  Fd fd_;
  Target target_;
  Loop::Watch watch_;
  Loop::Task when_room_;
  std::string pending_;
  bool ending_ = false;
};

}  // namespace keelson
