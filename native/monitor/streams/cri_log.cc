#include "monitor/streams/cri_log.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "monitor/server/monitor_log.h"

namespace keelson {

namespace {

constexpr int64_t warning_pause_ns = 60'000'000'000;

}  // namespace

// Records of one read in a buffer of the writer's.
class Log::Batch {
 public:
  Batch(Stream stream, int64_t time_ns, char* buffer)
      : buffer_(buffer), prefix_(rfc3339_utc(time_ns) + (stream == Stream::out ? " stdout F " : " stderr F ")) {}

  // One record whose content is `first` and `second` together, at most max_content bytes. False when it does not fit.
  bool record(char tag, std::string_view first, std::string_view second) {
    if (size_ + prefix_.size() + first.size() + second.size() + 1 > LogWriter::buffer_size) return false;
    prefix_[prefix_.size() - 2] = tag;
    append(prefix_);
    append(first);
    append(second);
    buffer_[size_++] = '\n';
    return true;
  }
  size_t size() const { return size_; }

 private:
  void append(std::string_view bytes) {
    if (bytes.empty()) return;  // an empty view may point nowhere
    memcpy(buffer_ + size_, bytes.data(), bytes.size());
    size_ += bytes.size();
  }

  char* buffer_;
  size_t size_ = 0;
  std::string prefix_;
};

void Log::open(Loop& loop, LogWriter& writer, std::string path, Done<std::unique_ptr<Log>> done) {
  auto file = LogFile::at(std::move(path));
  if (!file) {
    return loop.defer([done = std::move(done), error = std::move(file.error())]() mutable {
      done(std::unexpected(std::move(error)));
    });
  }
  writer.open(*file, [&writer, file = *file, done = std::move(done)](Status opened) mutable {
    if (opened) done(std::make_unique<Log>(writer, std::move(file)));
    else done(std::unexpected(std::move(opened.error())));
  });
}

Log::~Log() {
  writer_.forget(*this);
  writer_.close(std::move(file_));
}

void Log::put(Stream stream, std::string_view bytes, int64_t time_ns, bool ends) {
  const bool is_empty = bytes.empty() && (!ends || unfinished_[static_cast<size_t>(stream)].empty());
  if (given_up_ || (is_empty && pending_.empty())) return;
  if (pending_.empty() && format(stream, bytes, time_ns, ends)) return;
  pending_.push_back({stream, std::string(bytes), time_ns, ends});
}

// Hands records to the writer, and takes their bytes off `bytes`; false when no buffer was free for the rest.
bool Log::format(Stream stream, std::string_view& bytes, int64_t time_ns, bool ends) {
  for (bool is_done = false; !is_done;) {
    char* buffer = writer_.take_buffer();
    if (buffer == nullptr) return false;
    Batch batch(stream, time_ns, buffer);
    is_done = fill(batch, stream, bytes, ends);
    if (batch.size() > 0) last_write_ = writer_.write(*this, file_, buffer, batch.size(), warned_);
    else writer_.give_back(buffer);
  }
  return true;
}

// False when the batch is full.
bool Log::fill(Batch& batch, Stream stream, std::string_view& bytes, bool ends) {
  std::string& unfinished = unfinished_[static_cast<size_t>(stream)];
  while (!bytes.empty()) {
    const size_t room = max_content - unfinished.size();
    // A newline right behind a full record still ends that line: look one byte further.
    const void* newline = memchr(bytes.data(), '\n', std::min(bytes.size(), room + 1));
    if (newline != nullptr) {
      const auto length = static_cast<size_t>(static_cast<const char*>(newline) - bytes.data());
      if (!batch.record('F', unfinished, bytes.substr(0, length))) return false;
      unfinished.clear();
      bytes.remove_prefix(length + 1);
    } else if (bytes.size() > room) {
      if (!batch.record('P', unfinished, bytes.substr(0, room))) return false;
      unfinished.clear();
      bytes.remove_prefix(room);
    } else {
      unfinished += bytes;
      bytes = {};
    }
  }
  if (ends && !unfinished.empty()) {
    if (!batch.record('P', unfinished, {})) return false;
    unfinished.clear();
  }
  if (unfinished.empty() && unfinished.capacity() > 1024) unfinished = std::string();
  return true;
}

// False when some is left; on_progress() is called then.
bool Log::format_pending() {
  while (!pending_.empty()) {
    Input& input = pending_.front();
    std::string_view rest = input.bytes;
    if (format(input.stream, rest, input.time_ns, input.ends)) {
      pending_.pop_front();
      continue;
    }
    input.bytes.erase(0, input.bytes.size() - rest.size());
    if (!writer_.await_buffer(*this)) return false;
  }
  return true;
}

size_t Log::pending_bytes() const {
  size_t bytes = 0;
  for (const Input& input : pending_) bytes += input.bytes.size();
  return bytes;
}

void Log::give_up() {
  if (given_up_) return;
  size_t bytes = pending_bytes();
  for (const std::string& unfinished : unfinished_) bytes += unfinished.size();
  pending_.clear();
  given_up_ = true;
  count_lost(bytes, "the file system does not answer");
}

void Log::on_progress() {
  if (format_pending() && on_progress_) on_progress_();
}

void Log::on_written(LogFile::Appended appended) {
  if (appended.lost > 0) return count_lost(appended.lost, strerror(appended.error));
  if (!warned_) return;
  warn(file_->path() + ": written again; " + std::to_string(lost_bytes_) + " bytes of log were lost");
  warned_ = false;
  lost_bytes_ = 0;
}

void Log::count_lost(size_t bytes, std::string_view reason) {
  lost_bytes_ += bytes;
  const int64_t now = now_ns();
  if (warned_ || now < next_warning_ns_) return;
  warn(file_->path() + ": " + std::string(reason) + "; output is dropped until the log can be written again");
  warned_ = true;
  next_warning_ns_ = now + warning_pause_ns;
}

}  // namespace keelson
