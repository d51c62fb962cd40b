// The first half of the pipeline: reads the layer's bytes, hashes them, copies them to the blob file, decompresses them, and
// passes the tar stream on through the ring.
#pragma once

#include <array>
#include <cstdint>

#include "common/error.h"
#include "unpack/buffer_ring.h"

namespace keelson {

struct IntakeOptions {
  int input;           // pipe, socket or file
  int blob;            // file to copy the input to, unchanged, or -1
  uint64_t max_bytes;  // limit of the input, and of the decompressed stream
};

struct IntakeReport {
  std::array<uint8_t, 32> digest{};  // SHA-256 of the input
  uint64_t size = 0;                 // bytes of input
};

// Runs to the end of the input, or to the first failure, which it passes to the ring. Meant for a separate thread. The
// report is valid only if the ring ended without a failure.
IntakeReport take_in(const IntakeOptions& options, BufferRing& ring);

}  // namespace keelson
