// write(2) until everything is written.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <span>

#include "common/error.h"

namespace keelson {

inline Status write_all(int fd, std::span<const uint8_t> bytes, const char* step) {
  while (!bytes.empty()) {
    ssize_t put = ::write(fd, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return fail_errno(step);
    bytes = bytes.subspan(static_cast<size_t>(put));
  }
  return {};
}

}  // namespace keelson
