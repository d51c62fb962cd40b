// XXH64 with seed 0, the hash behind zstd's content checksum, fed in pieces.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace keelson {

class Xxh64 {
 public:
  Xxh64();
  void update(std::span<const uint8_t> bytes);
  // Of everything fed so far.
  uint64_t digest() const;

 private:
  std::array<uint64_t, 4> lanes_;
  std::array<uint8_t, 32> pending_;  // the first length_ % 32 bytes are filled
  uint64_t length_ = 0;              // bytes fed
};

}  // namespace keelson
