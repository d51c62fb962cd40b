#include "common/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

namespace keelson {

Result<Fd> open_file(const std::string& path, int flags, mode_t mode) {
  Fd file(::open(path.c_str(), flags | O_CLOEXEC, mode));
  if (!file) return fail_errno("open " + path);
  return file;
}

// procfs and cgroupfs report a size of 0, so this reads until read(2) returns 0. The buffer is on the stack, so that a file
// of ten bytes takes ten bytes of heap.
Result<std::string> read_to_end(int fd, size_t limit, const std::string& name) {
  std::string content;
  char chunk[8192];
  for (;;) {
    size_t room = std::min(limit + 1 - content.size(), sizeof chunk);
    ssize_t count = ::read(fd, chunk, room);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno("read " + name);
    if (count == 0) return content;
    content.append(chunk, static_cast<size_t>(count));
    if (content.size() > limit) return fail(Kind::invalid, "read " + name, "it is larger than expected");
  }
}

Result<std::string> read_file(const std::string& path, size_t limit) {
  const Fd file = TRY(open_file(path, O_RDONLY));
  return read_to_end(file.get(), limit, path);
}

Status write_all(int fd, std::span<const uint8_t> bytes, const char* step) {
  while (!bytes.empty()) {
    ssize_t put = ::write(fd, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return fail_errno(step);
    bytes = bytes.subspan(static_cast<size_t>(put));
  }
  return {};
}

Status make_directories(const std::string& path, mode_t mode) {
  for (size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string directory = path.substr(0, end);
    if (!directory.empty() && ::mkdir(directory.c_str(), mode) != 0 && errno != EEXIST) {
      return fail_errno("create the directory " + directory);
    }
    if (end == path.npos) return {};
  }
}

}  // namespace keelson
