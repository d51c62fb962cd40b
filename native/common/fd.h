// A file descriptor that closes itself, and functions that open one.
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
  // Preserves errno, so that a failure can be reported afterwards.
  void reset(int fd = -1);

 private:
  int fd_ = -1;
};

// openat2(2) of `path` below `root`, with RESOLVE_* in `resolve`; adds close-on-exec. No Fd, with errno set, on failure.
// Retries on EAGAIN, which the kernel returns when a concurrent rename anywhere races with a `..`.
Fd open_resolved(int root, const char* path, uint64_t flags, uint64_t resolve);

// pidfd_open(2). No Fd, with errno set, on failure.
Fd open_pidfd(pid_t pid);

}  // namespace keelson
