// A bitstream read from its end towards its beginning (RFC 8878, sections 3.1.1.3.2.1 and 4.2.2).
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "unpack/codec/bytes.h"

namespace keelson {

struct ReverseBits {
  uint64_t bits;         // the next bit is the highest, once `used` are shifted out
  unsigned used;         // above 64 once more bits were taken than the stream has
  const uint8_t* at;     // where `bits` were loaded from
  const uint8_t* begin;

  // False when the stream lacks the one bit that marks its end.
  bool start(std::span<const uint8_t> stream) {
    if (stream.empty() || stream.back() == 0) return false;
    begin = stream.data();
    used = static_cast<unsigned>(std::countl_zero(stream.back())) + 1;
    if (stream.size() >= 8) {
      at = begin + stream.size() - 8;
      bits = load<uint64_t>(at);
    } else {
      at = begin;
      bits = load_short(begin, stream.size());
      used += static_cast<unsigned>(8 * (8 - stream.size()));
    }
    return true;
  }

  // At least 57 bits are there afterwards, unless the stream ends. False when it had ended too early.
  [[gnu::always_inline]] bool refill() {
    if (at - begin >= 8) [[likely]] {
      at -= used >> 3;
      used &= 7;
      bits = load<uint64_t>(at);
      return true;
    }
    return refill_near_end();
  }

  bool refill_near_end() {
    if (used > 64) return false;
    size_t bytes = std::min<size_t>(used >> 3, static_cast<size_t>(at - begin));
    if (bytes == 0) return true;
    at -= bytes;
    used -= static_cast<unsigned>(8 * bytes);
    bits = load<uint64_t>(at);
    return true;
  }

  // The next `width` bits, 0 to 63.
  [[gnu::always_inline]] uint64_t peek(unsigned width) const { return ((bits << (used & 63)) >> 1) >> (63 - width); }

  [[gnu::always_inline]] uint32_t take(unsigned width) {
    uint64_t value = peek(width);
    used += width;
    return static_cast<uint32_t>(value);
  }

  bool overrun() const { return used > 64; }
  bool at_end() const { return at == begin && used == 64; }
};

}  // namespace keelson
