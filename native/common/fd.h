// A file descriptor that closes itself, and opening one below a directory, no further.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <utility>

namespace keelson {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  // Leaves errno as it is: what failed may be told behind it.
  void reset(int fd = -1);

 private:
  int fd_ = -1;
};

// openat2(2) of `path` below `root`, with RESOLVE_* in `resolve`; close-on-exec is added. No Fd, and errno, on failure.
// The kernel answers EAGAIN when a rename elsewhere raced with a `..`; the next try mostly succeeds.
Fd open_resolved(int root, const char* path, uint64_t flags, uint64_t resolve);

// pidfd_open(2). No Fd, and errno, on failure.
Fd open_pidfd(pid_t pid);

}  // namespace keelson
