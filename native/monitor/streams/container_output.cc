#include "monitor/streams/container_output.h"

#include <sys/epoll.h>
#include <unistd.h>

#include "monitor/server/monitor_log.h"

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
    source.watch = TRY(loop_.watch(source.fd.get(), EPOLLIN, [this, stream](uint32_t) { read_some(stream); }));
  }
  return {};
}

// One batch; false when there is nothing more to read now.
bool ContainerOutput::read_some(Stream stream) {
  Source& source = sources_[static_cast<size_t>(stream)];
  if (!source.fd) return false;
  char* buffer = loop_.buffers().for_reading();
  ssize_t count = read(source.fd.get(), buffer, SharedBuffers::read_size);
  if (count < 0 && errno == EINTR) return true;
  if (count < 0 && errno == EAGAIN) return false;
  if (count <= 0) {  // a terminal's master says EIO when the last slave is closed
    close(stream);
    check_end();
    return false;
  }
  std::string_view bytes(buffer, static_cast<size_t>(count));
  if (log_) log_->write(stream, bytes, now_ns(), loop_.buffers());
  attached_.send(stream == Stream::out ? FrameType::stdout_bytes : FrameType::stderr_bytes, bytes);
  return true;
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
  if (log_) log_->end(stream, now_ns(), loop_.buffers());
}

void ContainerOutput::check_end() {
  if (sources_[0].fd || sources_[1].fd || !on_end_) return;
  deadline_.cancel();
  Loop::Task on_end = std::exchange(on_end_, nullptr);
  on_end();
}

}  // namespace keelson
