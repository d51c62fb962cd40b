// Builds decode tables from code lengths (RFC 1951, section 3.2.2).
#include "unpack/codec/inflate_table.h"

#include <algorithm>
#include <array>
#include <bit>

namespace keelson {

namespace {

constexpr InflateEntry make_symbol(unsigned value, unsigned extra_bits, InflateEntry kind = 0) {
  return value << 16 | kind | extra_bits;
}

constexpr auto length_symbols = [] {
  std::array<InflateEntry, 288> symbols{};
  for (unsigned byte = 0; byte < 256; byte++) symbols[byte] = make_symbol(byte, 0, entry_literal);
  symbols[256] = make_symbol(0, 0, entry_special | entry_end);
  unsigned base = 3;
  for (unsigned symbol = 257; symbol < 285; symbol++) {
    unsigned extra = symbol < 265 ? 0 : (symbol - 261) / 4;
    symbols[symbol] = make_symbol(base, extra);
    base += 1u << extra;
  }
  symbols[285] = make_symbol(258, 0);
  symbols[286] = symbols[287] = make_symbol(0, 0, entry_special);  // take part in the fixed code, mean nothing
  return symbols;
}();

constexpr auto distance_symbols = [] {
  std::array<InflateEntry, 32> symbols{};
  unsigned base = 1;
  for (unsigned symbol = 0; symbol < 30; symbol++) {
    unsigned extra = symbol < 4 ? 0 : symbol / 2 - 1;
    symbols[symbol] = make_symbol(base, extra);
    base += 1u << extra;
  }
  symbols[30] = symbols[31] = make_symbol(0, 0, entry_special);
  return symbols;
}();

constexpr auto code_length_symbols = [] {
  std::array<InflateEntry, 19> symbols{};
  for (unsigned symbol = 0; symbol < 19; symbol++) symbols[symbol] = make_symbol(symbol, 0);
  return symbols;
}();

// Adds the code's bits to a symbol's entry. In a second table the root's bits are dropped already.
InflateEntry with_code(InflateEntry symbol, unsigned bits) {
  return symbol + (bits << 8 | bits);
}

// The code that follows among those of `length` bits. Codes are kept first bit lowest,
// so counting up carries from the top down.
uint32_t next_code(uint32_t code, unsigned length) {
  uint32_t ones = (uint32_t{1} << length) - 1;
  uint32_t highest_zero = std::bit_floor(code ^ ones);  // 0 behind the last code
  return highest_zero == 0 ? 0 : (code & (highest_zero - 1)) | highest_zero;
}

struct Code {
  std::array<uint16_t, longest_code + 1> count{};  // codes of each length
  std::array<uint16_t, 288> sorted;                // symbols by length, then value
  size_t used = 0;
  bool complete = false;
};

// False when there are more codes than bit strings, or fewer in a way that is not allowed.
bool sort_symbols(std::span<const uint8_t> lengths, Code& code) {
  for (uint8_t length : lengths) code.count[length]++;
  code.count[0] = 0;

  std::array<uint16_t, longest_code + 2> place{};
  uint32_t free_strings = 1;
  for (unsigned length = 1; length <= longest_code; length++) {
    free_strings *= 2;
    if (code.count[length] > free_strings) return false;
    free_strings -= code.count[length];
    place[length + 1] = static_cast<uint16_t>(place[length] + code.count[length]);
  }
  code.used = place[longest_code + 1];
  code.complete = free_strings == 0;
  if (!code.complete && (code.used > 1 || code.count[1] != code.used)) return false;

  for (size_t symbol = 0; symbol < lengths.size(); symbol++) {
    if (lengths[symbol] != 0) code.sorted[place[lengths[symbol]]++] = static_cast<uint16_t>(symbol);
  }
  return true;
}

// How wide the second table must be that starts with a code of `length`, `left` of which
// are still to be placed.
unsigned subtable_bits(const Code& code, unsigned length, unsigned left, unsigned root_bits) {
  unsigned bits = length - root_bits;
  uint32_t placed = left;
  while (length < longest_code && placed < (uint32_t{1} << bits)) {
    bits++;
    length++;
    placed = 2 * placed + code.count[length];
  }
  return bits;
}

}  // namespace

const InflateAlphabet length_alphabet = {length_symbols, 11};
const InflateAlphabet distance_alphabet = {distance_symbols, 8};
const InflateAlphabet code_length_alphabet = {code_length_symbols, 7};

bool build_table(const InflateAlphabet& alphabet, std::span<const uint8_t> lengths, std::span<InflateEntry> table) {
  Code code;
  if (!sort_symbols(lengths, code)) return false;

  const unsigned root_bits = alphabet.root_bits;
  const uint32_t root_size = uint32_t{1} << root_bits;
  if (!code.complete) {
    std::fill_n(table.begin(), root_size, with_code(entry_special, 1));
    for (size_t at = 0; code.used == 1 && at < root_size; at += 2) {
      table[at] = with_code(alphabet.symbols[code.sorted[0]], 1);
    }
    return true;
  }

  // Short codes: a table of `length` bits is filled, then doubled for the codes one bit longer.
  const uint16_t* symbol = code.sorted.data();
  uint32_t next = 0;
  for (unsigned length = 1; length <= root_bits; length++) {
    size_t half = size_t{1} << (length - 1);
    std::copy_n(table.begin(), half, table.begin() + half);
    for (unsigned left = code.count[length]; left > 0; left--) {
      table[next] = with_code(alphabet.symbols[*symbol++], length);
      next = next_code(next, length);
    }
  }

  size_t used = root_size;
  size_t subtable = 0;
  unsigned width = 0;
  uint32_t prefix = UINT32_MAX;  // the root entry whose second table is being filled
  for (unsigned length = root_bits + 1; length <= longest_code; length++) {
    for (unsigned left = code.count[length]; left > 0; left--) {
      uint32_t root = next & (root_size - 1);
      if (root != prefix) {
        prefix = root;
        width = subtable_bits(code, length, left, root_bits);
        subtable = used;
        used += size_t{1} << width;
        if (used > table.size()) return false;
        table[root] = static_cast<InflateEntry>(subtable << 16 | width << 8 | root_bits) | entry_special | entry_subtable;
      }
      InflateEntry entry = with_code(alphabet.symbols[*symbol++], length - root_bits);
      size_t stride = size_t{1} << (length - root_bits);
      for (size_t at = next >> root_bits; at < size_t{1} << width; at += stride) table[subtable + at] = entry;
      next = next_code(next, length);
    }
  }
  return true;
}

}  // namespace keelson
