#include "monitor/streams/output_reader.h"

#include <sys/epoll.h>
#include <unistd.h>

#include "monitor/server/monitor_log.h"
#include "monitor/streams/container_streams.h"

namespace keelson {

namespace {

// A few reads empty a pipe. If another process than the container's init keeps filling it, the thread must not stay
// here.
constexpr int max_reads_after_exit = 64;
constexpr Stream both[] = {Stream::out, Stream::err};

}  // namespace

// The reader is destroyed on the thread too, since closing a file can block like writing to it.
std::shared_ptr<OutputReader> OutputReader::make(LogThread& thread, std::optional<Log> log) {
  return std::shared_ptr<OutputReader>(new OutputReader(thread, std::move(log)), [&thread](OutputReader* reader) {
    thread.loop().post([reader = std::unique_ptr<OutputReader>(reader)] {});
  });
}

std::shared_ptr<OutputReader> OutputReader::without_log(LogThread& thread) { return make(thread, std::nullopt); }

void OutputReader::with_log(LogThread& thread, std::string path, Done<std::shared_ptr<OutputReader>> done) {
  thread.post([&thread, path = std::move(path), done = std::move(done)]() mutable {
    Result<std::shared_ptr<OutputReader>> reader;
    if (auto log = Log::open(std::move(path))) reader = make(thread, std::move(*log));
    else reader = std::unexpected(std::move(log.error()));
    thread.monitor().post([done = std::move(done), reader = std::move(reader)]() mutable { done(std::move(reader)); });
  });
}

void OutputReader::begin(std::weak_ptr<ContainerStreams> streams, Fd out, Fd err) {
  streams_ = std::move(streams);
  sources_[0].fd = std::move(out);
  sources_[1].fd = std::move(err);
  for (Stream stream : both) {
    Source& source = sources_[static_cast<size_t>(stream)];
    if (!source.fd) continue;
    auto watch = thread_.loop().watch(source.fd.get(), EPOLLIN, [this, stream](uint32_t) { read_some(stream); });
    if (watch) source.watch = std::move(*watch);
    else warn("read a container's output: " + watch.error().message());
  }
}

void OutputReader::forward_output(bool is_forwarding) { is_forwarding_ = is_forwarding; }

void OutputReader::resume() {
  is_paused_ = false;
  update_watches();
  if (is_finishing_) read_rest();
}

void OutputReader::widen() {
  for (Source& source : sources_) {
    if (source.fd) source.width.widen(source.fd.get());
  }
}

Status OutputReader::reopen_log() {
  if (!log_) return fail(Kind::state, "reopen the log", "the container has no log");
  return log_->reopen();
}

void OutputReader::finish() {
  is_finishing_ = true;
  for (Source& source : sources_) source.reads_after_exit = max_reads_after_exit;
  read_rest();
  check_end();
}

void OutputReader::close() {
  is_closing_ = true;
  is_paused_ = false;
  read_rest();
  for (Stream stream : both) close(stream);
  check_end();
}

// Reads one batch; false if there is nothing more to read now.
bool OutputReader::read_some(Stream stream) {
  Source& source = sources_[static_cast<size_t>(stream)];
  if (!source.fd || is_paused_) return false;
  char* buffer = thread_.loop().buffers().for_reading();
  const size_t wanted = is_forwarding_ ? max_bytes_payload : SharedBuffers::read_size;
  const ssize_t count = read(source.fd.get(), buffer, wanted);
  if (count < 0 && errno == EINTR) return true;
  if (count < 0 && errno == EAGAIN) return false;
  if (count <= 0) {  // a terminal's master returns EIO while no slave is open
    close(stream);
    check_end();
    return false;
  }
  const std::string_view bytes(buffer, static_cast<size_t>(count));
  source.width.follow(source.fd.get(), bytes.size());
  if (log_) log_->write(stream, bytes, now_ns(), thread_.loop().buffers());
  if (!is_forwarding_) return true;
  notify([stream, copy = std::string(bytes)](ContainerStreams& streams) { streams.on_output(stream, copy); });
  if (is_closing_) return true;
  is_paused_ = true;
  update_watches();
  return false;
}

void OutputReader::read_rest() {
  for (Stream stream : both) {
    int& left = sources_[static_cast<size_t>(stream)].reads_after_exit;
    while (left > 0 && read_some(stream)) --left;
  }
}

void OutputReader::update_watches() {
  for (Source& source : sources_) {
    if (source.fd) source.watch.want(is_paused_ ? 0u : EPOLLIN);
  }
}

void OutputReader::close(Stream stream) {
  Source& source = sources_[static_cast<size_t>(stream)];
  if (!source.fd) return;
  source.watch.stop();
  source.fd.reset();
  if (log_) log_->end(stream, now_ns(), thread_.loop().buffers());
}

void OutputReader::check_end() {
  if (!is_finishing_ || has_ended_ || sources_[0].fd || sources_[1].fd) return;
  has_ended_ = true;
  notify([](ContainerStreams& streams) { streams.on_output_end(); });
}

void OutputReader::notify(std::move_only_function<void(ContainerStreams&)> event) {
  thread_.monitor().post([weak = streams_, event = std::move(event)]() mutable {
    if (const auto streams = weak.lock()) event(*streams);
  });
}

}  // namespace keelson
