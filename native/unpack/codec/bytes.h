// Unaligned little-endian reads and writes.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace keelson {

static_assert(std::endian::native == std::endian::little, "the codecs are written for little-endian machines");

template <typename Integer>
inline Integer load(const uint8_t* from) {
  Integer value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <typename Integer>
inline void store(uint8_t* to, Integer value) {
  std::memcpy(to, &value, sizeof value);
}

// Little-endian integer of the first `size` (at most 8) bytes.
inline uint64_t load_short(const uint8_t* from, size_t size) {
  uint64_t value = 0;
  std::memcpy(&value, from, size);
  return value;
}

inline void copy16(uint8_t* to, const uint8_t* from) {
  std::memcpy(to, from, 16);
}

}  // namespace keelson
