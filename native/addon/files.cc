#include "addon/files.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>

namespace keelson {

std::optional<std::string> read_whole(int fd, size_t limit) {
  std::string content;
  // procfs and cgroupfs say size 0: read until the end, one byte past the limit at most. Through a buffer
  // on the stack, so that a file of ten bytes costs ten bytes and not a cleared block.
  std::array<char, 16384> block;
  for (;;) {
    size_t room = std::min(limit + 1 - content.size(), block.size());
    ssize_t count;
    do {
      count = ::read(fd, block.data(), room);
    } while (count < 0 && errno == EINTR);
    if (count < 0) return std::nullopt;
    if (count == 0) return content;
    content.append(block.data(), static_cast<size_t>(count));
    if (content.size() > limit) {
      errno = EFBIG;
      return std::nullopt;
    }
  }
}

FileContents read_files(const std::vector<std::string>& paths, size_t limit) {
  FileContents contents;
  contents.reserve(paths.size());
  for (const std::string& path : paths) {
    // O_NONBLOCK: a FIFO in the place of a file must not hold the thread.
    Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    struct stat info {};
    bool readable = fd && ::fstat(fd.get(), &info) == 0 && S_ISREG(info.st_mode);
    contents.push_back(readable ? read_whole(fd.get(), limit) : std::nullopt);
  }
  return contents;
}

Result<Fd> open_inside(const std::string& directory, const std::string& name) {
  if (name.find('\0') != name.npos) return Fd();
  Fd root(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root) return fail_errno("open it");
  struct open_how how {};
  how.flags = O_PATH | O_CLOEXEC;  // O_PATH: looking at a FIFO or a device must not open it
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
  Fd found(static_cast<int>(::syscall(SYS_openat2, root.get(), name.c_str(), &how, sizeof how)));
  if (!found) {
    switch (errno) {
      case ENOENT: case ENOTDIR: case ELOOP: case EXDEV: case ENAMETOOLONG: return Fd();
      default: return fail_errno("open " + name.substr(0, 200));
    }
  }
  struct stat info {};
  if (::fstat(found.get(), &info) != 0) return fail_errno("stat " + name);
  if (!S_ISREG(info.st_mode)) return Fd();
  Fd file(::open(("/proc/self/fd/" + std::to_string(found.get())).c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  if (!file) return fail_errno("open " + name);
  return file;
}

Status sync_file_system(const std::string& path) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd) return fail_errno("open it");
  if (::syncfs(fd.get()) != 0) return fail_errno("flush its file system");
  return {};
}

Result<Fd> try_lock(const std::string& path) {
  Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600));
  if (!fd) return fail_errno("open the lock file");
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  if (errno == EWOULDBLOCK) return Fd();
  return fail_errno("lock it");
}

}  // namespace keelson
