// Finite state entropy (RFC 8878, section 4.1): distributions and the decode tables they make.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "common/error.h"

namespace keelson {

inline constexpr unsigned fse_max_accuracy = 9;
inline constexpr size_t fse_max_symbols = 256;

// Shares of the symbols: they add up to 1 << accuracy, -1 counting as one ("less than 1").
struct FseDistribution {
  unsigned accuracy = 0;
  size_t symbols = 0;
  std::array<int16_t, fse_max_symbols> shares{};
};

// One state: the symbol it stands for, and the next state, which is `base` and `bits` bits of the stream.
struct FseCell {
  uint8_t symbol;
  uint8_t bits;
  uint16_t base;
};

// Reads a distribution from the front of `bytes` and takes its bytes off.
Result<FseDistribution> read_fse_distribution(std::span<const uint8_t>& bytes, unsigned max_accuracy,
                                              size_t max_symbols);

// Fills the first 1 << accuracy (at most fse_max_accuracy) cells.
void build_fse_table(const FseDistribution& distribution, std::span<FseCell> cells);

}  // namespace keelson
