// Decode tables of DEFLATE's prefix codes.
//
// The first `root_bits` bits of the stream select an entry; a longer code's entry
// leads to a second table selected by the bits behind those. An entry packs what
// decoding one symbol needs:
//
//   bits 0-7    how many bits of the stream the symbol takes, its extra bits included
//   bits 8-11   how many of them are the code (below the extra bits)
//   bits 12-15  kind: see below
//   bits 16-31  literal byte, base of the length or distance, or the second table's place
//
// In an entry that leads to a second table, bits 8-11 are that table's width.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace keelson {

using InflateEntry = uint32_t;

inline constexpr InflateEntry entry_literal = 1 << 12;
inline constexpr InflateEntry entry_special = 1 << 13;  // one of the next two, or not a code at all
inline constexpr InflateEntry entry_subtable = 1 << 14;
inline constexpr InflateEntry entry_end = 1 << 15;

inline constexpr unsigned longest_code = 15;

inline unsigned bits_of(InflateEntry entry) { return entry & 0xff; }
inline unsigned code_bits_of(InflateEntry entry) { return (entry >> 8) & 15; }
inline unsigned value_of(InflateEntry entry) { return entry >> 16; }

// One alphabet of RFC 1951, section 3.2.5: entries without a code yet, by symbol.
struct InflateAlphabet {
  std::span<const InflateEntry> symbols;
  unsigned root_bits;
};

extern const InflateAlphabet length_alphabet;       // literals, end of block, lengths
extern const InflateAlphabet distance_alphabet;
extern const InflateAlphabet code_length_alphabet;  // section 3.2.7; the values are the symbols

// Entries that any code of the alphabet fits in (found by search of all codes, as zlib's
// enough.c does); build_table holds to the size it is given all the same.
inline constexpr size_t length_table_size = 2342;
inline constexpr size_t distance_table_size = 402;
inline constexpr size_t code_length_table_size = 128;

// Makes the table of the code whose lengths (0 to 15, 0 for no code) stand in `lengths`,
// by symbol. False when the lengths are no prefix code. A code that leaves bit strings
// over is one only when it has a single one-bit code or none at all, as zlib has it.
bool build_table(const InflateAlphabet& alphabet, std::span<const uint8_t> lengths, std::span<InflateEntry> table);

}  // namespace keelson
