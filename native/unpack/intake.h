// The first half of the pass: reads the layer's bytes, hashes them, copies them to the
// blob file, inflates them, and hands the tar stream on through the ring.
#pragma once

#include <array>
#include <cstdint>

#include "common/error.h"
#include "unpack/buffer_ring.h"

namespace keelson {

struct IntakeOptions {
  int input;           // pipe, socket or file
  int blob;            // where the bytes go as they come, or -1
  uint64_t max_bytes;  // of the stream as fed, and of the inflated one
};

struct IntakeReport {
  std::array<uint8_t, 32> digest{};  // SHA-256 of the bytes as fed
  uint64_t size = 0;                 // bytes as fed
};

// Runs to the end of the input, or to the first failure, which goes into the ring. Meant for a
// thread of its own; the report is complete only when the ring ended without a failure.
IntakeReport take_in(const IntakeOptions& options, BufferRing& ring);

}  // namespace keelson
