// SHA-256's padding and buffering, and its compression in plain C++.
#include "unpack/codec/sha256.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "unpack/codec/bytes.h"
#include "unpack/codec/sha256_constants.h"

namespace keelson {

namespace {

constexpr size_t block_size = 64;

uint32_t big_sigma0(uint32_t x) { return std::rotr(x, 2) ^ std::rotr(x, 13) ^ std::rotr(x, 22); }
uint32_t big_sigma1(uint32_t x) { return std::rotr(x, 6) ^ std::rotr(x, 11) ^ std::rotr(x, 25); }
uint32_t small_sigma0(uint32_t x) { return std::rotr(x, 7) ^ std::rotr(x, 18) ^ (x >> 3); }
uint32_t small_sigma1(uint32_t x) { return std::rotr(x, 17) ^ std::rotr(x, 19) ^ (x >> 10); }

}  // namespace

// The names are those of FIPS 180-4, section 6.2.2.
void sha256_portable(uint32_t state[8], const uint8_t* data, size_t blocks) {
  for (; blocks > 0; blocks--, data += block_size) {
    uint32_t w[64];
    for (size_t t = 0; t < 16; t++) w[t] = __builtin_bswap32(load<uint32_t>(data + 4 * t));
    for (size_t t = 16; t < 64; t++) {
      w[t] = small_sigma1(w[t - 2]) + w[t - 7] + small_sigma0(w[t - 15]) + w[t - 16];
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (size_t t = 0; t < 64; t++) {
      uint32_t t1 = h + big_sigma1(e) + ((e & f) ^ (~e & g)) + sha256_constants[t] + w[t];
      uint32_t t2 = big_sigma0(a) + ((a & b) ^ (a & c) ^ (b & c));
      h = g;
      g = f;
      f = e;
      e = d + t1;
      d = c;
      c = b;
      b = a;
      a = t1 + t2;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
    state[5] += f;
    state[6] += g;
    state[7] += h;
  }
}

Sha256::Sha256() : compress_(sha256_hardware()) {
  if (compress_ == nullptr) compress_ = sha256_portable;
}

void Sha256::update(std::span<const uint8_t> bytes) {
  size_t filled = length_ % block_size;
  length_ += bytes.size();
  if (filled > 0) {
    size_t taken = std::min(bytes.size(), block_size - filled);
    std::copy_n(bytes.data(), taken, pending_.data() + filled);
    if (filled + taken < block_size) return;
    compress_(state_.data(), pending_.data(), 1);
    bytes = bytes.subspan(taken);
  }
  size_t blocks = bytes.size() / block_size;
  compress_(state_.data(), bytes.data(), blocks);
  bytes = bytes.subspan(blocks * block_size);
  std::copy_n(bytes.data(), bytes.size(), pending_.data());
}

std::array<uint8_t, 32> Sha256::finish() {
  uint64_t bits = length_ * 8;
  size_t filled = length_ % block_size;
  uint8_t padding[2 * block_size] = {0x80};
  size_t size = (filled < 56 ? 56 : 120) - filled;
  store(padding + size, __builtin_bswap64(bits));
  update({padding, size + 8});

  std::array<uint8_t, 32> digest;
  for (size_t i = 0; i < state_.size(); i++) store(digest.data() + 4 * i, __builtin_bswap32(state_[i]));
  return digest;
}

}  // namespace keelson
