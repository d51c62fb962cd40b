// The inflated stream as the tar reader wants it: exact reads, spans without a copy, hashed on the way.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "common/error.h"
#include "unpack/buffer_ring.h"
#include "unpack/codec/sha256.h"

namespace keelson {

class TarStream {
 public:
  explicit TarStream(ChunkSource& source) : source_(source) {}

  // At least one and at most `most` bytes (most > 0), valid until the next call; empty at the stream's end.
  Result<std::span<const uint8_t>> take(uint64_t most);
  // Exactly into.size() bytes; fails with kind `invalid` when the stream ends before.
  Status read_exactly(std::span<uint8_t> into);
  Status skip(uint64_t length);
  // Reads (and hashes) whatever is left.
  Status drain();
  // SHA-256 of all bytes of the stream; call it once, after drain().
  std::array<uint8_t, 32> digest() { return hash_.finish(); }

 private:
  ChunkSource& source_;
  std::span<const uint8_t> chunk_;
  Sha256 hash_;
};

}  // namespace keelson
