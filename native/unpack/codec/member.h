// What a compressed stream is a sequence of: gzip members (gzip.h), zstd frames (zstd.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "common/error.h"

namespace keelson {

struct MemberStep {
  size_t consumed = 0;
  size_t produced = 0;
  bool ended = false;  // the member is complete and was sound; the next call begins another one
};

class MemberDecoder {
 public:
  virtual ~MemberDecoder() = default;

  // As Decoder::step. A member's first call has its first `sniff_size` bytes alone, and takes them all.
  virtual Result<MemberStep> decode(std::span<const uint8_t> input, std::span<uint8_t> output) = 0;
};

}  // namespace keelson
