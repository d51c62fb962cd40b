// Two large buffers that all reads and log batches of the loop share: nothing is
// kept in them from one event to the next, so the pages go back when it is quiet.
#pragma once

#include <sys/mman.h>

#include <cstddef>

#include "common/error.h"

namespace keelson {

class Scratch {
 public:
  static constexpr size_t read_size = 256 << 10;
  static constexpr size_t format_size = 448 << 10;

  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    if (base_ != nullptr) munmap(base_, read_size + format_size);
  }

  Status map() {
    void* base = mmap(nullptr, read_size + format_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return fail_errno("map the shared buffers");
    // A huge page would be 2 MiB of memory for a few bytes of log.
    madvise(base, read_size + format_size, MADV_NOHUGEPAGE);
    base_ = static_cast<char*>(base);
    return {};
  }
  void release() { madvise(base_, read_size + format_size, MADV_DONTNEED); }

  char* for_reading() { return base_; }
  char* for_formatting() { return base_ + read_size; }

 private:
  char* base_ = nullptr;
};

}  // namespace keelson
