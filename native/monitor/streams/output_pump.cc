#include "monitor/streams/output_pump.h"

#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

namespace keelson {

Status OutputPump::open(Loop::Task on_end) {
  on_end_ = std::move(on_end);
  auto watch = loop_.watch(fd_.get(), EPOLLIN, [this](uint32_t) { read_some(); });
  if (!watch) return std::unexpected(watch.error());
  watch_ = std::move(*watch);
  return {};
}

void OutputPump::resume() {
  if (fd_) watch_.want(EPOLLIN);
}

void OutputPump::end_behind_present() {
  if (!fd_) return;
  int present = 0;
  bounded_ = true;
  left_ = ioctl(fd_.get(), FIONREAD, &present) == 0 ? static_cast<size_t>(std::max(present, 0)) : 0;
  if (left_ == 0) finish();
}

void OutputPump::read_some() {
  if (!connection_.has_room()) return watch_.want(0);
  size_t wanted = bounded_ ? std::min(left_, max_bytes_payload) : max_bytes_payload;
  ssize_t count = read(fd_.get(), scratch_.for_reading(), wanted);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  // A terminal's master says EIO, not end of file, when the last slave is closed.
  if (count <= 0) return finish();
  connection_.send(type_, {scratch_.for_reading(), static_cast<size_t>(count)});
  left_ -= std::min(left_, static_cast<size_t>(count));
  if (bounded_ && left_ == 0) finish();
}

void OutputPump::finish() {
  watch_.stop();
  fd_.reset();
  on_end_();
}

}  // namespace keelson
