#include "monitor/streams/log_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace keelson {

namespace {

// Opens `name` in `parent`, creating it if it is missing.
Fd open_directory(const Fd& parent, const char* name, LogFile::Step& step) {
  constexpr int flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  step = LogFile::Step::open_directory;
  Fd directory(openat(parent.get(), name, flags));
  if (directory || errno != ENOENT) return directory;
  if (mkdirat(parent.get(), name, 0755) != 0 && errno != EEXIST) {
    step = LogFile::Step::make_directory;
    return Fd();
  }
  return Fd(openat(parent.get(), name, flags));
}

// ELOOP is what opening a file says of a link; for a directory it is ENOTDIR.
int blame_link(const Fd& parent, const char* name, int error) {
  struct stat info{};
  const bool is_link = fstatat(parent.get(), name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(info.st_mode);
  return is_link ? ELOOP : error;
}

}  // namespace

Result<std::shared_ptr<LogFile>> LogFile::at(std::string path) {
  if (path.empty() || path[0] != '/') return fail(Kind::invalid, "open the log " + path, "its path is not absolute");
  if (path.back() == '/') return fail(Kind::invalid, "open the log " + path, "its path is that of a directory");
  return std::make_shared<LogFile>(std::move(path));
}

LogFile::LogFile(std::string path) : path_(std::move(path)), names_(path_) {
  std::ranges::replace(names_, '/', '\0');
}

// A pod that can write to its log directory must not choose where root creates files, so that no component may be a link.
// (The daemon has resolved what lies above the pod's own log directory.)
std::optional<LogFile::Failure> LogFile::open() {
  Fd directory(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!directory) return Failure{Step::open_root, 1, errno};
  const size_t last = path_.rfind('/') + 1;
  for (size_t begin = 1; begin < last;) {
    const char* name = names_.c_str() + begin;
    const size_t end = begin + strlen(name);
    begin = end + 1;
    if (*name == '\0') continue;  // two slashes
    Step step{};
    Fd next = open_directory(directory, name, step);
    if (!next) return Failure{step, end, blame_link(directory, name, errno)};
    directory = std::move(next);
  }
  // A FIFO without a reader must not block the open.
  constexpr int flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
  Fd file(openat(directory.get(), names_.c_str() + last, flags, 0640));
  if (!file) return Failure{Step::open_file, path_.size(), errno};
  struct stat info{};
  if (fstat(file.get(), &info) != 0) return Failure{Step::stat_file, path_.size(), errno};
  if (!S_ISREG(info.st_mode)) return Failure{Step::open_file, path_.size(), 0};
  file_ = std::move(file);
  return std::nullopt;
}

LogFile::Appended LogFile::append(std::string_view batch) {
  size_t written = 0;
  int error = 0;
  while (written < batch.size() && error == 0) {
    const ssize_t count = ::write(file_.get(), batch.data() + written, batch.size() - written);
    if (count > 0) written += static_cast<size_t>(count);
    else if (count == 0) error = ENOSPC;
    else if (errno != EINTR) error = errno;
  }
  if (error == 0) return {};
  // The next record must not continue a torn one's line.
  size_t whole = batch.substr(0, written).rfind('\n') + 1;  // npos + 1 is 0: no record went out whole
  struct stat info{};
  if (whole < written && fstat(file_.get(), &info) == 0) {
    const auto torn = static_cast<off_t>(written - whole);
    if (info.st_size < torn || ftruncate(file_.get(), info.st_size - torn) != 0) whole = written;
  }
  return {batch.size() - whole, error};
}

// The path is the request's: a name that no file can have, or a directory that is none, is not the disk's fault.
Error LogFile::explain(const Failure& failure) const {
  const std::string part = path_.substr(0, failure.end);
  const int error = failure.error;
  const bool blames_path = error == ENAMETOOLONG || error == ENOTDIR || error == EISDIR || error == ELOOP || error == 0;
  const Kind kind = blames_path ? Kind::invalid : Kind::system;
  switch (failure.step) {
    case Step::open_root:
      return {kind, "open /", {}, error, {}};
    case Step::make_directory:
      return {kind, "create the log's directory " + part, {}, error, {}};
    case Step::open_directory:
      if (error != ELOOP) return {kind, "open the log's directory " + part, {}, error, {}};
      return {kind, "open the log's directory " + part, {}, 0, "it is a symbolic link, and none is followed"};
    case Step::stat_file:
      return {kind, "stat the log " + part, {}, error, {}};
    case Step::open_file:
      break;
  }
  return {kind, "open the log " + part, {}, error, error == 0 ? "it is not a regular file" : ""};
}

}  // namespace keelson
