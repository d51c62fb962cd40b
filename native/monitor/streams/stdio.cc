#include "monitor/streams/stdio.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>

namespace keelson {

namespace {

// The size of a new pipe, and a larger one, with which a reader is woken once instead of four times.
constexpr size_t usual_pipe = 64 << 10;
constexpr size_t wide_pipe = 256 << 10;
constexpr size_t page = 4 << 10;
// More than a terminal's buffers hold for its master's reader. FIONREAD counts only the last of them.
constexpr size_t terminal_buffers = 64 << 10;

struct Pipe {
  Fd read_end, write_end;
};

Result<Pipe> make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return fail_errno("create a pipe");
  return Pipe{Fd(ends[0]), Fd(ends[1])};
}

Status make_nonblocking(const Fd& pipe) {
  // Each end has its own flags, so the process's end remains blocking; a new pipe has no flags to preserve.
  if (fcntl(pipe.get(), F_SETFL, O_NONBLOCK) != 0) return fail_errno("make a pipe non-blocking");
  return {};
}

}  // namespace

Result<StdioPipes> make_stdio_pipes(bool with_input) {
  StdioPipes pipes;
  if (with_input) {
    Pipe input = TRY(make_pipe());
    pipes.theirs.in = std::move(input.read_end);
    pipes.in = std::move(input.write_end);
    TRY(make_nonblocking(pipes.in));
  }
  for (auto [ours, theirs] : {std::pair(&pipes.out, &pipes.theirs.out), std::pair(&pipes.err, &pipes.theirs.err)}) {
    Pipe output = TRY(make_pipe());
    *ours = std::move(output.read_end);
    *theirs = std::move(output.write_end);
    TRY(make_nonblocking(*ours));
  }
  return pipes;
}

void PipeWidth::follow(int pipe, size_t count) {
  // A write that does not fit into the rest of a page starts a new one, so a full pipe may hold little more than half.
  const bool widens = !wide_ && count >= usual_pipe / 2;
  // Only below a page, because even under heavy output some reads are short.
  const bool narrows = wide_ && count < page;
  if (!widens && !narrows) return;
  // The kernel refuses if it is not a pipe, or holds more than the usual size again: then its size stays.
  if (fcntl(pipe, F_SETPIPE_SZ, widens ? wide_pipe : usual_pipe) >= 0) wide_ = widens;
}

void PipeWidth::widen(int pipe) {
  if (!wide_) wide_ = fcntl(pipe, F_SETPIPE_SZ, wide_pipe) >= 0;
}

Result<Fd> duplicate(const Fd& fd, const char* what) {
  Fd copy(fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
  if (!copy) return fail_errno(std::string("duplicate ") + what);
  return copy;
}

Fd open_slave(const Fd& terminal) { return Fd(ioctl(terminal.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC)); }

Status resize_terminal(int terminal, uint16_t columns, uint16_t rows) {
  winsize size{};
  size.ws_col = columns;
  size.ws_row = rows;
  if (ioctl(terminal, TIOCSWINSZ, &size) != 0) return fail_errno("resize the terminal");
  return {};
}

Result<std::unique_ptr<InputPipe>> InputPipe::open(Loop& loop, Fd fd, Target target, Loop::Task when_room) {
  auto pipe = std::make_unique<InputPipe>(std::move(fd), target, std::move(when_room));
  pipe->watch_ = TRY(loop.watch(pipe->fd_.get(), 0, [self = pipe.get()](uint32_t) { self->flush(); }));
  return pipe;
}

void InputPipe::write(std::string_view bytes) {
  if (!fd_ || ending_) return;
  pending_ += bytes;
  flush();
}

void InputPipe::write_from(Connection& client, std::string_view bytes) {
  write(bytes);
  if (!has_room()) client.pause_input(true);
}

void InputPipe::end() {
  if (ending_) return;
  if (target_ == Target::terminal) return write(end_of_file());
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
      // The reader has closed the pipe (EPIPE), as `head` does: the rest is dropped.
      watch_.stop();
      fd_.reset();
      written = pending_.size();
    }
  }
  pending_.erase(0, written);
  watch_.want(pending_.empty() ? 0u : EPOLLOUT);
  if (pending_.empty()) pending_ = std::string();
  bool finished = pending_.empty() && ending_;
  if (finished) finish();
  if ((!had_room && has_room()) || finished) when_room_();
}

std::string InputPipe::end_of_file() const {
  termios settings{};
  const bool line_editing = fd_ && tcgetattr(fd_.get(), &settings) == 0 && (settings.c_lflag & ICANON) != 0;
  return line_editing ? std::string(1, static_cast<char>(settings.c_cc[VEOF])) : std::string();
}

void InputPipe::finish() {
  if (!fd_) return;
  if (target_ == Target::socket) {
    shutdown(fd_.get(), SHUT_WR);
  } else if (target_ == Target::pipe) {
    watch_.stop();
    fd_.reset();
  }
}

Status OutputPump::open(Loop::Task on_end) {
  on_end_ = std::move(on_end);
  watch_ = TRY(loop_.watch(fd_.get(), EPOLLIN, [this](uint32_t) { read_some(); }));
  return {};
}

void OutputPump::resume() {
  if (!fd_) return;
  watch_.want(EPOLLIN);
  if (bounded_) read_some();
}

void OutputPump::end_after_pending() {
  if (!fd_) return;
  int present = 0;
  bounded_ = true;
  if (isatty(fd_.get())) left_ = terminal_buffers;
  else left_ = ioctl(fd_.get(), FIONREAD, &present) == 0 ? static_cast<size_t>(std::max(present, 0)) : 0;
  if (left_ == 0) return finish();
  read_some();
}

void OutputPump::read_some() {
  do {
    if (!connection_.has_room()) {
      width_.widen(fd_.get());
      return watch_.want(0);
    }
    const size_t wanted = bounded_ ? std::min(left_, max_bytes_payload) : max_bytes_payload;
    const ssize_t count = read(fd_.get(), loop_.buffers().for_reading(), wanted);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN && !bounded_) return;
    // A terminal's master returns EIO, not end of file, while no slave is open.
    if (count <= 0) return finish();
    width_.follow(fd_.get(), static_cast<size_t>(count));
    connection_.send(type_, {loop_.buffers().for_reading(), static_cast<size_t>(count)});
    left_ -= std::min(left_, static_cast<size_t>(count));
    if (bounded_ && left_ == 0) return finish();
  } while (bounded_);  // after the last byte no event would follow
}

void OutputPump::finish() {
  watch_.stop();
  fd_.reset();
  on_end_();
}

}  // namespace keelson
