// Huffman trees from their weights, and the decoding of literal streams.
#include "unpack/codec/zstd_huffman.h"

#include <algorithm>
#include <bit>

#include "unpack/codec/damaged.h"
#include "unpack/codec/zstd_bits.h"
#include "unpack/codec/zstd_fse.h"

namespace keelson {

namespace {

constexpr size_t max_symbols = 256;
constexpr unsigned max_weights_accuracy = 6;

std::unexpected<Error> damaged_tree(std::string what) {
  return damaged("zstd", "a Huffman tree " + std::move(what));
}

// The weights of all symbols but the last; room for that one is behind them.
struct Weights {
  std::array<uint8_t, max_symbols> list;
  size_t count = 0;
};

// Section 4.2.1.2: two states take turns; the stream's end is where one cannot be renewed,
// and then the other one's symbol is the last.
Result<Weights> read_fse_weights(std::span<const uint8_t> bytes) {
  Result<FseDistribution> distribution = read_fse_distribution(bytes, max_weights_accuracy, huffman_max_bits + 1);
  if (!distribution) return std::unexpected(distribution.error());
  std::array<FseCell, size_t{1} << max_weights_accuracy> cells;
  build_fse_table(*distribution, cells);

  ReverseBits in;
  if (!in.start(bytes)) return damaged_tree("whose weights have no end mark");
  std::array<uint32_t, 2> states;
  for (uint32_t& state : states) state = in.take(distribution->accuracy);
  if (in.overrun()) return damaged_tree("whose weights are cut short");

  Weights weights;
  for (size_t turn = 0;; turn ^= 1) {
    if (weights.count > max_symbols - 3) return damaged_tree("of too many symbols");
    FseCell cell = cells[states[turn]];
    weights.list[weights.count++] = cell.symbol;
    in.refill();
    states[turn] = cell.base + in.take(cell.bits);
    if (in.overrun()) {
      weights.list[weights.count++] = cells[states[turn ^ 1]].symbol;
      return weights;
    }
  }
}

// Section 4.2.1.1: four bits each, the first in the high half of its byte.
Weights read_direct_weights(std::span<const uint8_t> bytes, size_t count) {
  Weights weights;
  weights.count = count;
  for (size_t i = 0; i < count; i++) weights.list[i] = i % 2 == 0 ? bytes[i / 2] >> 4 : bytes[i / 2] & 15;
  return weights;
}

// A stream in the fast loop. `bits` are left-aligned, and a one marks their end: the zeros
// below it tell how many have been taken since the load.
struct FastStream {
  uint64_t bits;
  const uint8_t* at;

  explicit FastStream(const ReverseBits& from) : bits((from.bits | 1) << from.used), at(from.at) {}

  [[gnu::always_inline]] void refill() {
    unsigned used = static_cast<unsigned>(std::countr_zero(bits));
    at -= used >> 3;
    bits = (load<uint64_t>(at) | 1) << (used & 7);
  }

  void give_back(ReverseBits& to) const {
    to.at = at;
    to.bits = load<uint64_t>(at);
    to.used = static_cast<unsigned>(std::countr_zero(bits));
  }
};

// A refill leaves at most 7 bits used; five codes of 11 make 62, so the mark is never read.
constexpr size_t symbols_a_round = 5;
constexpr size_t bytes_a_round = 7;

[[gnu::always_inline]] inline void decode_round(FastStream& stream, uint8_t* to, const uint16_t* entries,
                                                unsigned shift) {
  stream.refill();
#pragma GCC unroll 5
  for (size_t i = 0; i < symbols_a_round; i++) {
    uint16_t entry = entries[stream.bits >> shift];
    stream.bits <<= entry & 63;
    to[i] = static_cast<uint8_t>(entry >> 8);
  }
}

struct Stream {
  ReverseBits in;
  uint8_t* next;
  uint8_t* end;

  size_t fast_rounds() const {
    if (in.used > 8) return 0;  // a stream below 8 bytes, or one near its end
    size_t by_input = static_cast<size_t>(in.at - in.begin) / bytes_a_round;
    size_t by_output = static_cast<size_t>(end - next) / symbols_a_round;
    return std::min(by_input, by_output);
  }
};

// Rounds that need no checks, side by side in four streams that wait for each other's loads.
[[gnu::always_inline]] inline void decode_four_fast(Stream* streams, const uint16_t* entries, unsigned shift) {
  for (;;) {
    size_t rounds = streams[0].fast_rounds();
    for (size_t i = 1; i < 4; i++) rounds = std::min(rounds, streams[i].fast_rounds());
    if (rounds == 0) return;
    FastStream a(streams[0].in), b(streams[1].in), c(streams[2].in), d(streams[3].in);
    for (size_t at = 0, all = rounds * symbols_a_round; at < all; at += symbols_a_round) {
      decode_round(a, streams[0].next + at, entries, shift);
      decode_round(b, streams[1].next + at, entries, shift);
      decode_round(c, streams[2].next + at, entries, shift);
      decode_round(d, streams[3].next + at, entries, shift);
    }
    a.give_back(streams[0].in);
    b.give_back(streams[1].in);
    c.give_back(streams[2].in);
    d.give_back(streams[3].in);
    for (size_t i = 0; i < 4; i++) {
      streams[i].next += rounds * symbols_a_round;
      streams[i].in.refill();
    }
  }
}

#if defined(__x86_64__)
__attribute__((target("bmi,bmi2"))) void decode_four_fast_bmi2(Stream* streams, const uint16_t* entries,
                                                               unsigned shift) {
  decode_four_fast(streams, entries, shift);
}
#endif

void decode_four_fast_generic(Stream* streams, const uint16_t* entries, unsigned shift) {
  decode_four_fast(streams, entries, shift);
}

using DecodeFour = decltype(&decode_four_fast_generic);

DecodeFour choose_four() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("bmi2") && __builtin_cpu_supports("bmi")) return decode_four_fast_bmi2;
#endif
  return decode_four_fast_generic;
}

// The rest of a stream, which must end with the output.
Status decode_rest(Stream& stream, const uint16_t* entries, unsigned bits) {
  while (stream.next < stream.end) {
    if (!stream.in.refill()) break;
    uint16_t entry = entries[stream.in.peek(bits)];
    stream.in.used += entry & 0xff;
    *stream.next++ = static_cast<uint8_t>(entry >> 8);
  }
  stream.in.refill();
  if (stream.next < stream.end || !stream.in.at_end()) {
    return damaged("zstd", "a literals stream does not end with its literals");
  }
  return {};
}

}  // namespace

Status HuffmanTable::read(std::span<const uint8_t>& bytes) {
  if (bytes.empty()) return damaged_tree("that is cut short");
  size_t header = bytes[0];
  bytes = bytes.subspan(1);
  bool direct = header >= 128;
  size_t count = header - 127;
  size_t size = direct ? (count + 1) / 2 : header;
  if (size > bytes.size()) return damaged_tree("that is cut short");

  Result<Weights> weights = direct ? read_direct_weights(bytes, count) : read_fse_weights(bytes.first(size));
  if (!weights) return std::unexpected(weights.error());
  bytes = bytes.subspan(size);
  return build({weights->list.data(), weights->count + 1});
}

// Section 4.2.1: `weights` lacks the last, which is what makes the sum a power of two.
// A symbol of weight w takes 1 << (w - 1) entries, lightest symbols first.
Status HuffmanTable::build(std::span<uint8_t> weights) {
  bits_ = 0;
  uint32_t sum = 0;
  for (uint8_t weight : weights.first(weights.size() - 1)) sum += (uint32_t{1} << weight) >> 1;
  if (sum == 0) return damaged_tree("without codes");
  unsigned bits = static_cast<unsigned>(std::bit_width(sum));
  if (bits > huffman_max_bits) return damaged_tree("with codes above 11 bits");
  uint32_t rest = (uint32_t{1} << bits) - sum;
  if (!std::has_single_bit(rest)) return damaged_tree("that is not complete");
  weights.back() = static_cast<uint8_t>(std::bit_width(rest));

  std::array<uint16_t, huffman_max_bits + 2> start{};  // first entry of each weight
  for (uint8_t weight : weights) {
    if (weight > 0) start[weight + 1] = static_cast<uint16_t>(start[weight + 1] + (1u << (weight - 1)));
  }
  if (start[2] == 0) return damaged_tree("without a longest code");
  for (size_t weight = 1; weight < start.size(); weight++) {
    start[weight] = static_cast<uint16_t>(start[weight] + start[weight - 1]);
  }

  for (size_t symbol = 0; symbol < weights.size(); symbol++) {
    unsigned weight = weights[symbol];
    if (weight == 0) continue;
    uint16_t entry = static_cast<uint16_t>(symbol << 8 | (bits + 1 - weight));
    uint16_t size = static_cast<uint16_t>(1u << (weight - 1));
    std::fill_n(entries_.begin() + start[weight], size, entry);
    start[weight] = static_cast<uint16_t>(start[weight] + size);
  }
  bits_ = bits;
  return {};
}

Status HuffmanTable::decode_one(std::span<const uint8_t> stream, std::span<uint8_t> output) const {
  Stream one = {{}, output.data(), output.data() + output.size()};
  if (!one.in.start(stream)) return damaged("zstd", "a literals stream without an end mark");
  return decode_rest(one, entries_.data(), bits_);
}

// Section 3.1.1.3.1.6: the sizes of the first three streams, two bytes each, then all four.
Status HuffmanTable::decode_four(std::span<const uint8_t> bytes, std::span<uint8_t> output) const {
  static const DecodeFour decode_fast = choose_four();
  constexpr size_t jump_table_size = 6;
  if (bytes.size() < jump_table_size) return damaged("zstd", "a literals jump table that is cut short");
  std::span<const uint8_t> rest = bytes.subspan(jump_table_size);
  size_t part = (output.size() + 3) / 4;
  if (3 * part > output.size()) return damaged("zstd", "four literals streams for too few literals");

  Stream streams[4];
  for (size_t i = 0; i < 4; i++) {
    size_t size = i < 3 ? load<uint16_t>(bytes.data() + 2 * i) : rest.size();
    if (size > rest.size()) return damaged("zstd", "a literals stream that is cut short");
    streams[i].next = output.data() + i * part;
    streams[i].end = i < 3 ? streams[i].next + part : output.data() + output.size();
    if (!streams[i].in.start(rest.first(size))) return damaged("zstd", "a literals stream without an end mark");
    rest = rest.subspan(size);
  }
  decode_fast(streams, entries_.data(), 64 - bits_);
  for (Stream& stream : streams) {
    if (Status end = decode_rest(stream, entries_.data(), bits_); !end) return end;
  }
  return {};
}

}  // namespace keelson
