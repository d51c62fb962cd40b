// Compressed blocks (RFC 8878, section 3.1.1.2.4): literals, then the sequences that place them.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "common/error.h"
#include "unpack/codec/zstd_huffman.h"
#include "unpack/codec/zstd_sequences.h"
#include "unpack/codec/zstd_window.h"

namespace keelson {

// Decodes a frame's compressed blocks one by one; keeps what a block may take over from an earlier one.
class ZstdBlocks {
 public:
  void begin_frame();

  // Decodes `block` to `to`, a place that window.begin_block() gave. Returns the output's end.
  Result<uint8_t*> decode(std::span<const uint8_t> block, const ZstdWindow& window, uint8_t* to);

 private:
  Result<ZstdLiterals> read_literals(std::span<const uint8_t>& block, size_t max_size);
  Status read_coded_literals(std::span<const uint8_t> coded, bool own_tree, bool four_streams, size_t size);

  bool has_tree_ = false;  // since the frame's begin
  HuffmanTable tree_;
  ZstdSequences sequences_;
  std::array<uint8_t, zstd_max_block + copy_overshoot> literals_;
};

}  // namespace keelson
