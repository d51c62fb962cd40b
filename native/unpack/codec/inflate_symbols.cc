// Decodes literals and matches: a fast loop while there is plenty of input, a careful one else.
#include "unpack/codec/inflate_symbols.h"

namespace keelson {

namespace {

constexpr unsigned length_root_bits = 11;
constexpr unsigned distance_root_bits = 8;

// What the fast loop may read in one round: three fills of at most 7 bytes, each by an 8-byte load.
constexpr size_t fast_input = 32;

uint64_t lowest(uint64_t bits, unsigned width) { return bits & ((uint64_t{1} << width) - 1); }

// A symbol's value with its extra bits, which lie above its code.
size_t value_with_extra(InflateEntry entry, uint64_t bits) {
  return value_of(entry) + (lowest(bits, bits_of(entry)) >> code_bits_of(entry));
}

// The longest symbols take 11 bits for a literal of the first table, 20 for a length and 28
// for a distance: a fill's 56 bits last for two such literals and a length, and for a distance.
[[gnu::always_inline]] inline SymbolsEnd decode_fast(BitReader& input, InflateOutput& output,
                                                     const InflateEntry* lengths, const InflateEntry* distances) {
  BitReader in = input;
  uint8_t* out = output.next;
  uint8_t* const limit = output.limit;
  const uint8_t* const oldest = output.oldest;
  const uint8_t* const in_limit = in.end - fast_input;
  SymbolsEnd end = SymbolsEnd::hungry;

  in.fill_fast();
  InflateEntry entry = lengths[lowest(in.bits, length_root_bits)];
  for (;;) {
    // Here `entry` is looked up and not yet dropped, from bits that need no filling to be right.
    if (out >= limit) {
      end = SymbolsEnd::full;
      break;
    }
    if (in.next > in_limit) break;
    in.fill_fast();

    if (entry & entry_literal) {
      *out++ = static_cast<uint8_t>(value_of(entry));
      in.drop(bits_of(entry));
      entry = lengths[lowest(in.bits, length_root_bits)];
      if (entry & entry_literal) {
        *out++ = static_cast<uint8_t>(value_of(entry));
        in.drop(bits_of(entry));
        entry = lengths[lowest(in.bits, length_root_bits)];
        if (entry & entry_literal) {
          *out++ = static_cast<uint8_t>(value_of(entry));
          in.drop(bits_of(entry));
          entry = lengths[lowest(in.bits, length_root_bits)];
          continue;
        }
      }
    }

    if (entry & entry_special) [[unlikely]] {
      if (entry & entry_subtable) {
        in.drop(bits_of(entry));
        entry = lengths[value_of(entry) + lowest(in.bits, code_bits_of(entry))];
        if (entry & entry_literal) {
          *out++ = static_cast<uint8_t>(value_of(entry));
          in.drop(bits_of(entry));
          entry = lengths[lowest(in.bits, length_root_bits)];
          continue;
        }
      }
      if (entry & entry_special) {
        in.drop(bits_of(entry));
        end = entry & entry_end ? SymbolsEnd::block_end : SymbolsEnd::invalid_code;
        break;
      }
    }
    size_t length = value_with_extra(entry, in.bits);
    in.drop(bits_of(entry));

    in.fill_fast();
    entry = distances[lowest(in.bits, distance_root_bits)];
    if (entry & entry_special) [[unlikely]] {
      if (entry & entry_subtable) {
        in.drop(bits_of(entry));
        entry = distances[value_of(entry) + lowest(in.bits, code_bits_of(entry))];
      }
      if (entry & entry_special) {
        end = SymbolsEnd::invalid_code;
        break;
      }
    }
    size_t distance = value_with_extra(entry, in.bits);
    in.drop(bits_of(entry));
    entry = lengths[lowest(in.bits, length_root_bits)];

    if (distance > static_cast<size_t>(out - oldest)) [[unlikely]] {
      end = SymbolsEnd::too_far_back;
      break;
    }
    copy_match(out, distance, length);
    out += length;
  }

  in.bits = lowest(in.bits, in.count);
  input = in;
  output.next = out;
  return end;
}

#if defined(__x86_64__)
// BMI2 has shifts that leave the flags and any register alone.
__attribute__((target("bmi2"))) SymbolsEnd decode_fast_bmi2(BitReader& input, InflateOutput& output,
                                                            const InflateEntry* lengths,
                                                            const InflateEntry* distances) {
  return decode_fast(input, output, lengths, distances);
}
#endif

SymbolsEnd decode_fast_generic(BitReader& input, InflateOutput& output, const InflateEntry* lengths,
                               const InflateEntry* distances) {
  return decode_fast(input, output, lengths, distances);
}

using DecodeFast = decltype(&decode_fast_generic);

DecodeFast choose_fast() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("bmi2")) return decode_fast_bmi2;
#endif
  return decode_fast_generic;
}

// A symbol's entry, and the bits it was read from, without having dropped any.
struct Looked {
  InflateEntry entry;
  uint64_t bits;     // from the symbol's last table's bits on
  unsigned dropped;  // bits before those
};

Looked look_up(const InflateEntry* table, unsigned root_bits, uint64_t bits) {
  InflateEntry entry = table[lowest(bits, root_bits)];
  if (!(entry & entry_subtable)) return {entry, bits, 0};
  bits >>= root_bits;
  return {table[value_of(entry) + lowest(bits, code_bits_of(entry))], bits, root_bits};
}

// One symbol, or a length with its distance, taken whole or not at all. With all of its bits there,
// zeros that stand for bits to come can only have led to a code longer than what is there.
SymbolsEnd decode_carefully(BitReader& in, InflateOutput& output, const InflateEntry* lengths,
                            const InflateEntry* distances) {
  while (output.next < output.limit) {
    in.fill();
    Looked symbol = look_up(lengths, length_root_bits, in.bits);
    unsigned size = symbol.dropped + bits_of(symbol.entry);
    if (size > in.count) return SymbolsEnd::hungry;
    if (symbol.entry & entry_literal) {
      *output.next++ = static_cast<uint8_t>(value_of(symbol.entry));
      in.drop(size);
      continue;
    }
    if (symbol.entry & entry_special) {
      in.drop(size);
      return symbol.entry & entry_end ? SymbolsEnd::block_end : SymbolsEnd::invalid_code;
    }
    size_t length = value_with_extra(symbol.entry, symbol.bits);

    Looked back = look_up(distances, distance_root_bits, in.bits >> size);
    size += back.dropped + bits_of(back.entry);
    if (size > in.count) return SymbolsEnd::hungry;
    if (back.entry & entry_special) return SymbolsEnd::invalid_code;
    size_t distance = value_with_extra(back.entry, back.bits);
    if (distance > static_cast<size_t>(output.next - output.oldest)) return SymbolsEnd::too_far_back;
    in.drop(size);
    copy_match(output.next, distance, length);
    output.next += length;
  }
  return SymbolsEnd::full;
}

}  // namespace

SymbolsEnd decode_symbols(BitReader& input, InflateOutput& output, const InflateEntry* lengths,
                          const InflateEntry* distances) {
  static const DecodeFast decode_plenty = choose_fast();
  if (input.left() >= fast_input) {
    SymbolsEnd end = decode_plenty(input, output, lengths, distances);
    if (end != SymbolsEnd::hungry) return end;
  }
  return decode_carefully(input, output, lengths, distances);
}

}  // namespace keelson
