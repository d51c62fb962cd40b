#include "monitor/streams/container_output.h"

#include <sys/epoll.h>
#include <unistd.h>

#include "monitor/server/clock.h"

namespace keelson {

namespace {

using namespace std::chrono_literals;

constexpr auto end_limit = 1s;
// A pipe is emptied by a few reads; who fills it meanwhile is not the init and must not keep the loop here.
constexpr int max_reads_after_exit = 64;
constexpr Stream both[] = {Stream::out, Stream::err};

}  // namespace

Status ContainerOutput::open(Fd out, Fd err) {
  sources_[0].fd = std::move(out);
  sources_[1].fd = std::move(err);
  for (Stream stream : both) {
    Source& source = sources_[static_cast<size_t>(stream)];
    if (!source.fd) continue;
    auto watch = loop_.watch(source.fd.get(), EPOLLIN, [this, stream](uint32_t) { read_some(stream); });
    if (!watch) return std::unexpected(watch.error());
    source.watch = std::move(*watch);
  }
  return {};
}

// One batch; false when there is nothing more to read now.
bool ContainerOutput::read_some(Stream stream) {
  Source& source = sources_[static_cast<size_t>(stream)];
  if (!source.fd) return false;
  ssize_t count = read(source.fd.get(), scratch_.for_reading(), Scratch::read_size);
  if (count < 0 && errno == EINTR) return true;
  if (count < 0 && errno == EAGAIN) return false;
  if (count <= 0) {  // a terminal's master says EIO when the last slave is closed
    close(stream);
    check_end();
    return false;
  }
  std::string_view bytes(scratch_.for_reading(), static_cast<size_t>(count));
  if (log_) log_->write(stream, bytes, now_ns(), scratch_);
  if (!attached_.empty()) pass_on(stream, bytes);
  return true;
}

void ContainerOutput::pass_on(Stream stream, std::string_view bytes) {
  FrameType type = stream == Stream::out ? FrameType::stdout_bytes : FrameType::stderr_bytes;
  std::erase_if(attached_, [&](const std::weak_ptr<Connection>& held) {
    auto client = held.lock();
    if (!client || !client->open_for_frames()) return true;
    std::string_view rest = bytes;
    while (!rest.empty()) {
      if (!client->has_room()) {
        client->fail_with(Error{Kind::busy, "attach", {}, 0, "the client reads too slowly and was detached"});
        return true;
      }
      client->send(type, rest.substr(0, max_bytes_payload));
      rest.remove_prefix(std::min(rest.size(), max_bytes_payload));
    }
    return false;
  });
}

void ContainerOutput::finish(Loop::Task on_end) {
  for (Stream stream : both) {
    for (int reads = 0; reads < max_reads_after_exit && read_some(stream); ++reads) {
    }
  }
  on_end_ = std::move(on_end);
  deadline_ = loop_.after(end_limit, [this] {
    for (Stream stream : both) close(stream);
    check_end();
  });
  check_end();
}

void ContainerOutput::close(Stream stream) {
  Source& source = sources_[static_cast<size_t>(stream)];
  if (!source.fd) return;
  source.watch.stop();
  source.fd.reset();
  if (log_) log_->end(stream, now_ns(), scratch_);
}

void ContainerOutput::check_end() {
  if (sources_[0].fd || sources_[1].fd || !on_end_) return;
  deadline_.cancel();
  Loop::Task on_end = std::exchange(on_end_, nullptr);
  on_end();
}

}  // namespace keelson
