// SHA-256 (FIPS 180-4), fed in pieces. Uses the processor's SHA instructions when it has them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace keelson {

// Advances `state` over `blocks` whole 64-byte blocks at `data`.
using Sha256Compress = void (*)(uint32_t state[8], const uint8_t* data, size_t blocks);

void sha256_portable(uint32_t state[8], const uint8_t* data, size_t blocks);
// The version in SHA instructions, or nullptr when this processor has none.
Sha256Compress sha256_hardware();

class Sha256 {
 public:
  Sha256();
  explicit Sha256(Sha256Compress compress) : compress_(compress) {}

  void update(std::span<const uint8_t> bytes);
  // The digest of everything fed. Call it once; the object is spent afterwards.
  std::array<uint8_t, 32> finish();

 private:
  Sha256Compress compress_;
  std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<uint8_t, 64> pending_;  // the first length_ % 64 bytes are filled
  uint64_t length_ = 0;              // bytes fed
};

}  // namespace keelson
