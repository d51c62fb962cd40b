#include "monitor/streams/cri_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "monitor/server/monitor_log.h"

namespace keelson {

namespace {

constexpr int64_t warning_pause_ns = 60'000'000'000;

// The path is from the request: an invalid one is an invalid request, not a system error.
std::unexpected<Error> fail_path(std::string step, int error) {
  const bool blames_path = error == ENAMETOOLONG || error == ENOTDIR || error == EISDIR || error == ELOOP;
  return std::unexpected(Error{blames_path ? Kind::invalid : Kind::system, std::move(step), {}, error, {}});
}

Result<Fd> open_component(const Fd& parent, const std::string& name, const std::string& path) {
  constexpr int flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  Fd directory(openat(parent.get(), name.c_str(), flags));
  if (!directory && errno == ENOENT) {
    if (mkdirat(parent.get(), name.c_str(), 0755) != 0 && errno != EEXIST) return fail_errno("create " + path);
    directory = Fd(openat(parent.get(), name.c_str(), flags));
  }
  if (directory) return directory;
  const int error = errno;
  struct stat info{};
  if (fstatat(parent.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(info.st_mode)) {
    return fail(Kind::invalid, "open the log's directory " + path, "it is a symbolic link, which is not followed");
  }
  return fail_path("open the log's directory " + path, error);
}

// Creates missing directories. No component may be a link: a pod with write access to a log directory must not choose
// where root creates files. (The daemon has resolved the path above the pod's own log directory.)
Result<Fd> open_log_directory(std::string_view path) {
  Fd at(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!at) return fail_errno("open /");
  for (size_t begin = 1; begin < path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    if (end > begin) {
      at = TRY(open_component(at, std::string(path.substr(begin, end - begin)), std::string(path.substr(0, end))));
    }
    begin = end + 1;
  }
  return at;
}

// Creates the file if it is missing. Does not follow a link as the last component, and does not block on a FIFO.
Result<Fd> open_log_file(const std::string& path) {
  if (path.empty() || path[0] != '/') return fail(Kind::invalid, "open the log " + path, "its path is not absolute");
  const size_t slash = path.rfind('/');
  if (slash + 1 == path.size()) return fail(Kind::invalid, "open the log " + path, "its path ends with a slash");
  const Fd directory = TRY(open_log_directory(std::string_view(path).substr(0, slash)));
  constexpr int flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
  Fd file(openat(directory.get(), path.c_str() + slash + 1, flags, 0640));
  if (!file) return fail_path("open the log " + path, errno);
  struct stat info{};
  if (fstat(file.get(), &info) != 0) return fail_errno("stat the log " + path);
  if (!S_ISREG(info.st_mode)) return fail(Kind::invalid, "open the log " + path, "it is not a regular file");
  return file;
}

}  // namespace

// Formats records into the shared buffer, and writes it to the file when it is full.
class Log::Batch {
 public:
  Batch(Log& log, Stream stream, int64_t time_ns, char* buffer) : log_(log), buffer_(buffer) {
    prefix_ = rfc3339_utc(time_ns) + (stream == Stream::out ? " stdout F " : " stderr F ");
  }
  ~Batch() {
    if (size_ > 0) log_.flush({buffer_, size_});
  }
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;

  // One record whose content is `first` and `second` together, at most max_content bytes.
  void record(char tag, std::string_view first, std::string_view second) {
    if (size_ + prefix_.size() + first.size() + second.size() + 1 > SharedBuffers::format_size) {
      log_.flush({buffer_, size_});
      size_ = 0;
    }
    prefix_[prefix_.size() - 2] = tag;
    append(prefix_);
    append(first);
    append(second);
    buffer_[size_++] = '\n';
  }

 private:
  void append(std::string_view bytes) {
    if (bytes.empty()) return;  // memcpy requires valid pointers, which an empty view may not have
    memcpy(buffer_ + size_, bytes.data(), bytes.size());
    size_ += bytes.size();
  }

  Log& log_;
  char* buffer_;
  size_t size_ = 0;
  std::string prefix_;
};

Result<Log> Log::open(std::string path) {
  Log log;
  log.file_ = TRY(open_log_file(path));
  log.path_ = std::move(path);
  return log;
}

void Log::write(Stream stream, std::string_view bytes, int64_t time_ns, SharedBuffers& buffers) {
  Batch batch(*this, stream, time_ns, buffers.for_formatting());
  std::string& unfinished = unfinished_[static_cast<size_t>(stream)];
  while (!bytes.empty()) {
    size_t room = max_content - unfinished.size();
    // A newline right after a full record still ends that line, so search one byte further.
    const void* newline = memchr(bytes.data(), '\n', std::min(bytes.size(), room + 1));
    if (newline != nullptr) {
      auto length = static_cast<size_t>(static_cast<const char*>(newline) - bytes.data());
      batch.record('F', unfinished, bytes.substr(0, length));
      unfinished.clear();
      bytes.remove_prefix(length + 1);
    } else if (bytes.size() > room) {
      batch.record('P', unfinished, bytes.substr(0, room));
      unfinished.clear();
      bytes.remove_prefix(room);
    } else {
      unfinished += bytes;
      return;
    }
  }
  if (unfinished.capacity() > 1024) unfinished = std::string();
}

void Log::end(Stream stream, int64_t time_ns, SharedBuffers& buffers) {
  std::string unfinished = std::exchange(unfinished_[static_cast<size_t>(stream)], {});
  if (unfinished.empty()) return;
  Batch batch(*this, stream, time_ns, buffers.for_formatting());
  batch.record('P', unfinished, {});
}

Status Log::reopen() {
  file_ = TRY(open_log_file(path_));
  return {};
}

void Log::flush(std::string_view batch) {
  size_t written = 0;
  while (written < batch.size()) {
    ssize_t count = ::write(file_.get(), batch.data() + written, batch.size() - written);
    if (count > 0) written += static_cast<size_t>(count);
    else if (count == 0 || errno != EINTR) return drop(batch, written, count == 0 ? ENOSPC : errno);
  }
  if (!warned_) return;
  warn(path_ + ": writable again; " + std::to_string(dropped_bytes_) + " bytes of log were lost");
  warned_ = false;
  dropped_bytes_ = 0;
}

void Log::drop(std::string_view batch, size_t written, int error) {
  // The file must end with a complete record, otherwise the next one would continue its line.
  size_t complete = batch.substr(0, written).rfind('\n') + 1;  // npos + 1 is 0: no complete record was written
  struct stat info{};
  if (complete < written && fstat(file_.get(), &info) == 0) {
    auto partial = static_cast<off_t>(written - complete);
    if (info.st_size < partial || ftruncate(file_.get(), info.st_size - partial) != 0) complete = written;
  }
  dropped_bytes_ += batch.size() - complete;
  int64_t now = now_ns();
  if (warned_ || now < next_warning_ns_) return;
  warn(path_ + ": " + strerror(error) + "; output is dropped until the log can be written again");
  warned_ = true;
  next_warning_ns_ = now + warning_pause_ns;
}

}  // namespace keelson
