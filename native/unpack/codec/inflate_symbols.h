// The body of a compressed DEFLATE block: literals and matches until its end.
#pragma once

#include <cstddef>
#include <cstdint>

#include "unpack/codec/bit_reader.h"
#include "unpack/codec/copy.h"
#include "unpack/codec/inflate_table.h"

namespace keelson {

inline constexpr size_t longest_match = 258;

// Where decoded bytes go. Decoding goes on while `next` is below `limit`, and may write
// `inflate_overshoot` bytes from there on.
struct InflateOutput {
  uint8_t* next;
  uint8_t* limit;
  const uint8_t* oldest;  // first byte of the history a match may reach back to
};

// Three literals and a match begun below the limit.
inline constexpr size_t inflate_overshoot = 3 + longest_match + copy_overshoot;

enum class SymbolsEnd : uint8_t { hungry, full, block_end, invalid_code, too_far_back };

// Stops between symbols: what `input` still holds then is the next symbol's beginning.
// The tables are those of length_alphabet and distance_alphabet.
SymbolsEnd decode_symbols(BitReader& input, InflateOutput& output, const InflateEntry* lengths,
                          const InflateEntry* distances);

}  // namespace keelson
