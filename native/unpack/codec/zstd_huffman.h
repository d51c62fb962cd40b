// Huffman-coded literals (RFC 8878, section 4.2).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "common/error.h"

namespace keelson {

inline constexpr unsigned huffman_max_bits = 11;

class HuffmanTable {
 public:
  // Reads the tree's description from the front of `bytes` and takes its bytes off.
  Status read(std::span<const uint8_t>& bytes);

  // Decodes exactly `output` from one stream, or from four behind their jump table.
  Status decode_one(std::span<const uint8_t> stream, std::span<uint8_t> output) const;
  Status decode_four(std::span<const uint8_t> streams, std::span<uint8_t> output) const;

 private:
  Status build(std::span<uint8_t> weights);

  unsigned bits_ = 0;  // the longest code
  // Selected by the next `bits_` bits: symbol << 8 | its code's bits.
  std::array<uint16_t, size_t{1} << huffman_max_bits> entries_{};
};

}  // namespace keelson
