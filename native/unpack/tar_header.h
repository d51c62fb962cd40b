// Parses one 512-byte tar header: v7, ustar (POSIX.1-1988) or GNU, as described in pax(1) and GNU tar's manual.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "common/error.h"

namespace keelson {

inline constexpr size_t tar_block = 512;
using TarBlock = std::array<uint8_t, tar_block>;

struct TarHeader {
  char type = '0';      // typeflag; '\0' of old archives is '0'
  std::string path;     // includes ustar's prefix
  std::string link;
  uint32_t mode = 0;    // permission bits with setuid, setgid and sticky only
  int64_t uid = 0;
  int64_t gid = 0;
  int64_t size = 0;     // never negative
  int64_t mtime = 0;    // seconds since the epoch
  int64_t major = 0;    // devices only
  int64_t minor = 0;
};

// A numeric field: octal digits, or base-256 (GNU) when the top bit of the first byte is set.
// An empty field is 0. Returns nothing if it is neither or does not fit 64 bits.
std::optional<int64_t> parse_tar_number(std::string_view field);

bool is_zero_block(const TarBlock& block);

// Checks the checksum (signed or unsigned sum, both exist) and every number; fails with kind `invalid`.
Result<TarHeader> parse_tar_header(const TarBlock& block);

}  // namespace keelson
