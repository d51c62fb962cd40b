// XXH64, as the xxHash specification (0.1.1) has it.
#include "unpack/codec/xxh64.h"

#include <algorithm>
#include <bit>

#include "unpack/codec/bytes.h"

namespace keelson {

namespace {

constexpr size_t stripe_size = 32;

constexpr uint64_t prime1 = 11400714785074694791u;
constexpr uint64_t prime2 = 14029467366897019727u;
constexpr uint64_t prime3 = 1609587929392839161u;
constexpr uint64_t prime4 = 9650029242287828579u;
constexpr uint64_t prime5 = 2870177450012600261u;

uint64_t round(uint64_t lane, uint64_t input) {
  return std::rotl(lane + input * prime2, 31) * prime1;
}

uint64_t merge(uint64_t hash, uint64_t lane) {
  return (hash ^ round(0, lane)) * prime1 + prime4;
}

void eat_stripes(std::array<uint64_t, 4>& lanes, const uint8_t* data, size_t stripes) {
  auto [a, b, c, d] = lanes;
  for (; stripes > 0; stripes--, data += stripe_size) {
    a = round(a, load<uint64_t>(data));
    b = round(b, load<uint64_t>(data + 8));
    c = round(c, load<uint64_t>(data + 16));
    d = round(d, load<uint64_t>(data + 24));
  }
  lanes = {a, b, c, d};
}

}  // namespace

Xxh64::Xxh64() : lanes_{prime1 + prime2, prime2, 0, 0 - prime1} {}

void Xxh64::update(std::span<const uint8_t> bytes) {
  size_t filled = length_ % stripe_size;
  length_ += bytes.size();
  if (filled > 0) {
    size_t taken = std::min(bytes.size(), stripe_size - filled);
    std::copy_n(bytes.data(), taken, pending_.data() + filled);
    if (filled + taken < stripe_size) return;
    eat_stripes(lanes_, pending_.data(), 1);
    bytes = bytes.subspan(taken);
  }
  size_t stripes = bytes.size() / stripe_size;
  eat_stripes(lanes_, bytes.data(), stripes);
  bytes = bytes.subspan(stripes * stripe_size);
  std::copy_n(bytes.data(), bytes.size(), pending_.data());
}

uint64_t Xxh64::digest() const {
  uint64_t hash = prime5;
  if (length_ >= stripe_size) {
    hash = std::rotl(lanes_[0], 1) + std::rotl(lanes_[1], 7) + std::rotl(lanes_[2], 12) + std::rotl(lanes_[3], 18);
    for (uint64_t lane : lanes_) hash = merge(hash, lane);
  }
  hash += length_;

  const uint8_t* rest = pending_.data();
  size_t left = length_ % stripe_size;
  for (; left >= 8; left -= 8, rest += 8) {
    hash = std::rotl(hash ^ round(0, load<uint64_t>(rest)), 27) * prime1 + prime4;
  }
  if (left >= 4) {
    hash = std::rotl(hash ^ (load<uint32_t>(rest) * prime1), 23) * prime2 + prime3;
    left -= 4;
    rest += 4;
  }
  for (; left > 0; left--, rest++) hash = std::rotl(hash ^ (*rest * prime5), 11) * prime1;

  hash = (hash ^ (hash >> 33)) * prime2;
  hash = (hash ^ (hash >> 29)) * prime3;
  return hash ^ (hash >> 32);
}

}  // namespace keelson
