// Copies of matches and literals: short, many, and with room behind the target to overshoot into.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "unpack/codec/bytes.h"

namespace keelson {

// What copy_match and copy_literals may write behind their last byte, and read behind the literals'.
inline constexpr size_t copy_overshoot = 32;

// Copies `size` bytes, 16 at a time; `from` is at least 16 bytes before `to`, or anywhere behind it.
[[gnu::always_inline]] inline void copy_far(uint8_t* to, const uint8_t* from, size_t size) {
  uint8_t* end = to + size;
  copy16(to, from);
  if (size <= 16) return;
  copy16(to + 16, from + 16);
  for (to += 32, from += 32; to < end; to += 16, from += 16) copy16(to, from);
}

// Repeats the `distance` (at least 1) bytes before `to` until `size` bytes are written.
[[gnu::always_inline]] inline void copy_match(uint8_t* to, size_t distance, size_t size) {
  if (distance >= 16) [[likely]] {
    copy_far(to, to - distance, size);
    return;
  }
  uint8_t* end = to + size;
  if (distance == 1) {
    uint8_t run[16];
    std::memset(run, to[-1], sizeof run);
    do {
      copy16(to, run);
      to += 16;
    } while (to < end);
    return;
  }
  // Eight bytes a time of which `distance` are right: the rest is written again.
  size_t stride = distance < 8 ? distance : 8;
  const uint8_t* from = to - distance;
  do {
    store(to, load<uint64_t>(from));
    to += stride;
    from += stride;
  } while (to < end);
}

}  // namespace keelson
