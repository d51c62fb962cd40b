// Sequences (RFC 8878, section 3.1.1.3.2): their tables, and their execution into the window.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "common/error.h"
#include "unpack/codec/zstd_fse.h"
#include "unpack/codec/zstd_window.h"

namespace keelson {

// A state of one of the three codes: what it stands for, and how the next state is made.
struct SequenceCell {
  uint32_t base;       // literals length, match length or offset
  uint16_t next_base;
  uint8_t extra_bits;  // to be added to base
  uint8_t next_bits;   // to be added to next_base
};

struct SequenceTable {
  unsigned accuracy = 0;
  bool filled = false;  // since the frame's begin
  std::array<SequenceCell, size_t{1} << fse_max_accuracy> cells{};
};

// Decoded literals; copy_overshoot bytes behind them are readable.
struct ZstdLiterals {
  const uint8_t* next;
  const uint8_t* end;
};

class ZstdSequences {
 public:
  // Forgets what blocks of the last frame left.
  void begin_frame();

  // Runs the sequences section `bytes` (all that is left of a block): literals and
  // matches go to `to`. Returns the output's end.
  Result<uint8_t*> run(std::span<const uint8_t> bytes, ZstdLiterals literals, const ZstdWindow& window, uint8_t* to);

 private:
  SequenceTable literal_lengths_;
  SequenceTable match_lengths_;
  SequenceTable offsets_;
  std::array<size_t, 3> recent_offsets_{};  // section 3.1.1.5
};

}  // namespace keelson
