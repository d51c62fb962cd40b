// Reads FSE distributions and lays their states out.
#include "unpack/codec/zstd_fse.h"

#include <bit>
#include <cstdlib>

#include "unpack/codec/bytes.h"
#include "unpack/codec/damaged.h"

namespace keelson {

namespace {

// Bits from the front, lowest first; behind the end there are zeros.
struct ForwardBits {
  std::span<const uint8_t> bytes;
  size_t position = 0;  // in bits

  uint32_t peek(unsigned width) const {
    size_t byte = position / 8;
    if (byte >= bytes.size()) return 0;
    uint64_t word = load_short(bytes.data() + byte, std::min<size_t>(8, bytes.size() - byte));
    return static_cast<uint32_t>((word >> (position % 8)) & ((uint64_t{1} << width) - 1));
  }

  uint32_t take(unsigned width) {
    uint32_t value = peek(width);
    position += width;
    return value;
  }

  size_t bytes_used() const { return (position + 7) / 8; }
};

}  // namespace

// Section 4.1.1.
Result<FseDistribution> read_fse_distribution(std::span<const uint8_t>& bytes, unsigned max_accuracy,
                                              size_t max_symbols) {
  ForwardBits in{bytes};
  FseDistribution distribution;
  distribution.accuracy = in.take(4) + 5;
  if (distribution.accuracy > max_accuracy) return damaged("zstd", "an FSE table of too high an accuracy");

  uint32_t left = uint32_t{1} << distribution.accuracy;
  while (left > 0) {
    if (distribution.symbols == max_symbols) return damaged("zstd", "an FSE table for too many symbols");
    // A value from 0 to left + 1; the smallest ones take a bit less.
    unsigned width = static_cast<unsigned>(std::bit_width(left + 1));
    uint32_t short_values = (uint32_t{1} << width) - 1 - (left + 1);
    uint32_t value = in.peek(width - 1);
    if (value < short_values) {
      in.position += width - 1;
    } else {
      value = in.take(width);
      if (value >= uint32_t{1} << (width - 1)) value -= short_values;
    }
    int share = static_cast<int>(value) - 1;
    left -= static_cast<uint32_t>(std::abs(share));
    distribution.shares[distribution.symbols++] = static_cast<int16_t>(share);
    if (share != 0) continue;

    for (uint32_t repeat = 3; repeat == 3;) {
      repeat = in.take(2);
      if (repeat > max_symbols - distribution.symbols) return damaged("zstd", "an FSE table for too many symbols");
      distribution.symbols += repeat;  // their shares are zero
    }
  }
  if (in.bytes_used() > bytes.size()) return damaged("zstd", "an FSE table that is cut short");
  bytes = bytes.subspan(in.bytes_used());
  return distribution;
}

void build_fse_table(const FseDistribution& distribution, std::span<FseCell> cells) {
  const uint32_t size = uint32_t{1} << distribution.accuracy;
  std::array<uint16_t, fse_max_symbols> next_rank;

  uint32_t high = size;  // symbols of less than 1 take the last states
  for (size_t symbol = 0; symbol < distribution.symbols; symbol++) {
    int share = distribution.shares[symbol];
    if (share == -1) cells[--high].symbol = static_cast<uint8_t>(symbol);
    next_rank[symbol] = static_cast<uint16_t>(std::abs(share));
  }

  const uint32_t step = (size >> 1) + (size >> 3) + 3;
  uint32_t position = 0;
  for (size_t symbol = 0; symbol < distribution.symbols; symbol++) {
    for (int left = distribution.shares[symbol]; left > 0; left--) {
      cells[position].symbol = static_cast<uint8_t>(symbol);
      do position = (position + step) & (size - 1);
      while (position >= high);
    }
  }

  for (FseCell& cell : cells.first(size)) {
    uint32_t rank = next_rank[cell.symbol]++;
    unsigned bits = distribution.accuracy + 1 - static_cast<unsigned>(std::bit_width(rank));
    cell.bits = static_cast<uint8_t>(bits);
    cell.base = static_cast<uint16_t>((rank << bits) - size);
  }
}

}  // namespace keelson
