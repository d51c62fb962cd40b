// Bits of a stream that comes in pieces, lowest bit of each byte first (RFC 1951, section 3.1.1).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "unpack/codec/bytes.h"

namespace keelson {

struct BitReader {
  uint64_t bits = 0;    // the next bit is the lowest; those above `count` are zero
  unsigned count = 0;   // at most 63
  const uint8_t* next = nullptr;  // input not yet in `bits`
  const uint8_t* end = nullptr;

  void feed(std::span<const uint8_t> input) {
    next = input.data();
    end = next + input.size();
  }

  size_t left() const { return static_cast<size_t>(end - next); }

  // Takes whole bytes in while they fit: at least 56 bits are there afterwards unless the input ends.
  void fill() {
    if (left() >= 8) {
      fill_fast();
      bits &= (uint64_t{1} << count) - 1;
    } else {
      while (count < 56 && next != end) {
        bits |= uint64_t{*next++} << count;
        count += 8;
      }
    }
  }

  // The same with 8 readable bytes at `next`, leaving bits above `count` that the next call repeats.
  [[gnu::always_inline]] void fill_fast() {
    bits |= load<uint64_t>(next) << count;
    next += (63 - count) >> 3;
    count |= 56;
  }

  // Whether `wanted` (at most 56) bits are there.
  bool has(unsigned wanted) {
    if (count < wanted) fill();
    return count >= wanted;
  }

  uint32_t peek(unsigned width) const { return static_cast<uint32_t>(bits & ((uint64_t{1} << width) - 1)); }

  void drop(unsigned width) {
    bits >>= width;
    count -= width;
  }

  uint32_t take(unsigned width) {
    uint32_t value = peek(width);
    drop(width);
    return value;
  }

  void align_to_byte() { drop(count % 8); }
};

}  // namespace keelson
