#include "monitor/streams/input_pipe.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

namespace keelson {

Status InputPipe::open() {
  auto watch = loop_.watch(fd_.get(), 0, [this](uint32_t) { flush(); });
  if (!watch) return std::unexpected(watch.error());
  watch_ = std::move(*watch);
  return {};
}

void InputPipe::write(std::string_view bytes) {
  if (!fd_ || ending_) return;
  pending_ += bytes;
  flush();
}

void InputPipe::end() {
  if (ending_) return;
  ending_ = true;
  if (pending_.empty()) finish();
}

void InputPipe::flush() {
  bool had_room = has_room();
  size_t written = 0;
  while (fd_ && written < pending_.size()) {
    ssize_t count = ::write(fd_.get(), pending_.data() + written, pending_.size() - written);
    if (count >= 0) {
      written += static_cast<size_t>(count);
    } else if (errno == EAGAIN) {
      break;
    } else if (errno != EINTR) {
      // The reader has gone (EPIPE), as when `head` has seen enough: the rest goes nowhere.
      watch_.stop();
      fd_.reset();
      written = pending_.size();
    }
  }
  pending_.erase(0, written);
  if (pending_.empty()) watch_.want(0);
  else watch_.want(EPOLLOUT);
  if (pending_.empty()) pending_ = std::string();
  bool finished = pending_.empty() && ending_;
  if (finished) finish();
  if (when_room_ && ((!had_room && has_room()) || finished)) when_room_();
}

void InputPipe::finish() {
  if (!fd_) return;
  if (target_ == Target::socket) {
    shutdown(fd_.get(), SHUT_WR);
  } else if (target_ == Target::terminal) {
    termios settings{};
    char end_of_file = 4;
    bool line_editing = tcgetattr(fd_.get(), &settings) == 0 && (settings.c_lflag & ICANON) != 0;
    if (line_editing) end_of_file = static_cast<char>(settings.c_cc[VEOF]);
    if (line_editing && ::write(fd_.get(), &end_of_file, 1) < 0) return;
  } else {
    watch_.stop();
    fd_.reset();
  }
}

}  // namespace keelson
