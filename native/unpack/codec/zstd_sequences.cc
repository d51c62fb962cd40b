// Reads a block's sequence tables, then decodes and executes its sequences.
#include "unpack/codec/zstd_sequences.h"

#include <algorithm>

#include "unpack/codec/damaged.h"
#include "unpack/codec/zstd_bits.h"

namespace keelson {

namespace {

struct CodeValue {
  uint32_t base;
  uint8_t extra_bits;
};

// One of the three codes: the values of its symbols and the distribution of mode 0.
struct SequenceCode {
  std::string_view name;
  std::span<const CodeValue> values;
  unsigned max_accuracy;
  unsigned default_accuracy;
  std::span<const int16_t> default_shares;
};

// Sections 3.1.1.3.2.1.1 (values) and 3.1.1.3.2.2 (default distributions).
constexpr auto literal_length_values = [] {
  std::array<CodeValue, 36> values{};
  constexpr std::array<uint8_t, 20> extra_bits = {1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
  for (uint32_t symbol = 0; symbol < 16; symbol++) values[symbol] = {symbol, 0};
  uint32_t base = 16;
  for (size_t i = 0; i < extra_bits.size(); i++) {
    values[16 + i] = {base, extra_bits[i]};
    base += uint32_t{1} << extra_bits[i];
  }
  return values;
}();

constexpr auto match_length_values = [] {
  std::array<CodeValue, 53> values{};
  constexpr std::array<uint8_t, 21> extra_bits = {1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
  for (uint32_t symbol = 0; symbol < 32; symbol++) values[symbol] = {symbol + 3, 0};
  uint32_t base = 35;
  for (size_t i = 0; i < extra_bits.size(); i++) {
    values[32 + i] = {base, extra_bits[i]};
    base += uint32_t{1} << extra_bits[i];
  }
  return values;
}();

constexpr auto offset_values = [] {
  std::array<CodeValue, 32> values{};
  for (uint8_t symbol = 0; symbol < 32; symbol++) values[symbol] = {uint32_t{1} << symbol, symbol};
  return values;
}();

constexpr std::array<int16_t, 36> literal_length_shares = {4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,  1,  1,  1,  2, 2,
                                                           2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1};
constexpr std::array<int16_t, 53> match_length_shares = {1, 4, 3, 2, 2, 2, 2,  2,  2,  1,  1,  1,  1,  1, 1, 1, 1, 1,
                                                         1, 1, 1, 1, 1, 1, 1,  1,  1,  1,  1,  1,  1,  1, 1, 1, 1, 1,
                                                         1, 1, 1, 1, 1, 1, 1,  1,  1,  1, -1, -1, -1, -1, -1, -1, -1};
constexpr std::array<int16_t, 29> offset_shares = {1, 1, 1, 1, 1, 1, 2, 2, 2, 1,  1,  1,  1,  1, 1,
                                                   1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1};

constexpr SequenceCode literal_length_code = {"literals length", literal_length_values, 9, 6, literal_length_shares};
constexpr SequenceCode match_length_code = {"match length", match_length_values, 9, 6, match_length_shares};
constexpr SequenceCode offset_code = {"offset", offset_values, 8, 5, offset_shares};

void fill_table(SequenceTable& table, const SequenceCode& code, const FseDistribution& distribution) {
  std::array<FseCell, size_t{1} << fse_max_accuracy> cells;
  build_fse_table(distribution, cells);
  for (size_t i = 0; i < size_t{1} << distribution.accuracy; i++) {
    const CodeValue& value = code.values[cells[i].symbol];
    table.cells[i] = {value.base, cells[i].base, value.extra_bits, cells[i].bits};
  }
  table.accuracy = distribution.accuracy;
}

// Section 3.1.1.3.2.1: mode 0 has the default table, 1 a single symbol, 2 a table of its own, 3 the last one.
Status read_table(SequenceTable& table, const SequenceCode& code, unsigned mode, std::span<const uint8_t>& bytes) {
  switch (mode) {
    case 0: {
      FseDistribution distribution{code.default_accuracy, code.default_shares.size(), {}};
      std::copy(code.default_shares.begin(), code.default_shares.end(), distribution.shares.begin());
      fill_table(table, code, distribution);
      break;
    }
    case 1: {
      if (bytes.empty()) return damaged("zstd", "a sequences section that is cut short");
      size_t symbol = bytes[0];
      bytes = bytes.subspan(1);
      if (symbol >= code.values.size()) return damaged("zstd", "an unknown " + std::string(code.name) + " code");
      table.accuracy = 0;
      table.cells[0] = {code.values[symbol].base, 0, code.values[symbol].extra_bits, 0};
      break;
    }
    case 2: {
      Result<FseDistribution> distribution = read_fse_distribution(bytes, code.max_accuracy, code.values.size());
      if (!distribution) return std::unexpected(distribution.error());
      fill_table(table, code, *distribution);
      break;
    }
    default:
      if (!table.filled) return damaged("zstd", "a repeated " + std::string(code.name) + " table before the first");
      break;
  }
  table.filled = true;
  return {};
}

// Takes the number of sequences off the front of `bytes`.
Result<size_t> read_count(std::span<const uint8_t>& bytes) {
  auto cut_short = [] { return damaged("zstd", "a sequences section that is cut short"); };
  if (bytes.empty()) return cut_short();
  size_t first = bytes[0];
  size_t size = first < 128 ? 1 : first < 255 ? 2 : 3;
  if (bytes.size() < size) return cut_short();
  size_t count = first;
  if (size == 2) count = ((first - 128) << 8) + bytes[1];
  if (size == 3) count = load<uint16_t>(bytes.data() + 1) + size_t{0x7f00};
  bytes = bytes.subspan(size);
  return count;
}

struct State {
  const SequenceCell* cells;
  SequenceCell now;

  void start(const SequenceTable& table, ReverseBits& in) {
    cells = table.cells.data();
    now = cells[in.take(table.accuracy)];
  }
  [[gnu::always_inline]] void advance(ReverseBits& in) { now = cells[now.next_base + in.take(now.next_bits)]; }
  [[gnu::always_inline]] size_t value(ReverseBits& in) const { return size_t{now.base} + in.take(now.extra_bits); }
};

struct Recent {
  size_t first, second, third;

  // Section 3.1.1.5: values 1 to 3 stand for a recent offset, shifted by one when there are no literals.
  [[gnu::always_inline]] size_t resolve(size_t value, bool no_literals) {
    if (value > 3) [[likely]] {
      third = second;
      second = first;
      first = value - 3;
      return first;
    }
    size_t which = value + no_literals;
    if (which == 1) return first;
    size_t offset = which == 2 ? second : which == 3 ? third : first - 1;
    if (which != 2) third = second;
    second = first;
    first = offset;
    return offset;
  }
};

enum class RunEnd : uint8_t { done, bad_end, too_long, too_far_back };

struct Run {
  ReverseBits in;
  State literal_length, match_length, offset;
  Recent recent;
  ZstdLiterals literals;
  uint8_t* to;
  uint8_t* to_end;  // the longest the block may become
};

[[gnu::always_inline]] inline RunEnd run_sequences(Run& run, size_t count, const ZstdWindow& window) {
  Run now = run;
  const uint8_t* const oldest = window.oldest_in_line();
  const size_t reach = window.reach();
  for (;; count--) {
    // 31 + 16 bits, then 16 + 9 + 9 + 8: a refill's 57 are enough for each.
    if (!now.in.refill()) [[unlikely]] return RunEnd::bad_end;
    size_t offset = now.offset.value(now.in);
    size_t match = now.match_length.value(now.in);
    now.in.refill();
    size_t literals = now.literal_length.value(now.in);
    if (count > 1) [[likely]] {
      now.literal_length.advance(now.in);
      now.match_length.advance(now.in);
      now.offset.advance(now.in);
    }
    offset = now.recent.resolve(offset, literals == 0);

    size_t literals_left = static_cast<size_t>(now.literals.end - now.literals.next);
    size_t room = static_cast<size_t>(now.to_end - now.to);
    if (literals > literals_left || literals + match > room) [[unlikely]] return RunEnd::too_long;
    copy_far(now.to, now.literals.next, literals);
    now.to += literals;
    now.literals.next += literals;

    if (offset - 1 < std::min(reach, static_cast<size_t>(now.to - oldest))) [[likely]] {
      copy_match(now.to, offset, match);
    } else if (offset == 0 || !window.copy_from_previous(now.to, offset, match)) {
      return RunEnd::too_far_back;
    }
    now.to += match;
    if (count == 1) break;
  }
  run = now;
  return now.in.refill() && now.in.at_end() ? RunEnd::done : RunEnd::bad_end;
}

#if defined(__x86_64__)
__attribute__((target("bmi,bmi2"))) RunEnd run_sequences_bmi2(Run& run, size_t count, const ZstdWindow& window) {
  return run_sequences(run, count, window);
}
#endif

RunEnd run_sequences_generic(Run& run, size_t count, const ZstdWindow& window) {
  return run_sequences(run, count, window);
}

using RunSequences = decltype(&run_sequences_generic);

RunSequences choose_run() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("bmi2") && __builtin_cpu_supports("bmi")) return run_sequences_bmi2;
#endif
  return run_sequences_generic;
}

}  // namespace

void ZstdSequences::begin_frame() {
  literal_lengths_.filled = match_lengths_.filled = offsets_.filled = false;
  recent_offsets_ = {1, 4, 8};
}

Result<uint8_t*> ZstdSequences::run(std::span<const uint8_t> bytes, ZstdLiterals literals, const ZstdWindow& window,
                                    uint8_t* to) {
  static const RunSequences run_all = choose_run();
  uint8_t* const to_end = to + window.max_block();
  Result<size_t> count = read_count(bytes);
  if (!count) return std::unexpected(count.error());
  if (*count == 0 && !bytes.empty()) return damaged("zstd", "bytes behind a block without sequences");

  if (*count > 0) {
    if (bytes.empty()) return damaged("zstd", "a sequences section that is cut short");
    unsigned modes = bytes[0];
    bytes = bytes.subspan(1);
    if (modes & 3) return damaged("zstd", "a sequences section with reserved bits set");
    Status read = read_table(literal_lengths_, literal_length_code, modes >> 6, bytes);
    if (read) read = read_table(offsets_, offset_code, (modes >> 4) & 3, bytes);
    if (read) read = read_table(match_lengths_, match_length_code, (modes >> 2) & 3, bytes);
    if (!read) return std::unexpected(read.error());

    Run run{};
    if (!run.in.start(bytes)) return damaged("zstd", "sequences without an end mark");
    run.literal_length.start(literal_lengths_, run.in);
    run.offset.start(offsets_, run.in);
    run.match_length.start(match_lengths_, run.in);
    run.recent = {recent_offsets_[0], recent_offsets_[1], recent_offsets_[2]};
    run.literals = literals;
    run.to = to;
    run.to_end = to_end;
    switch (run_all(run, *count, window)) {
      case RunEnd::done: break;
      case RunEnd::bad_end: return damaged("zstd", "sequences do not end where their bits end");
      case RunEnd::too_long: return damaged("zstd", "sequences for more bytes than the block can have");
      case RunEnd::too_far_back: return damaged("zstd", "a match that reaches back before the first byte or the window");
    }
    recent_offsets_ = {run.recent.first, run.recent.second, run.recent.third};
    literals = run.literals;
    to = run.to;
  }

  size_t rest = static_cast<size_t>(literals.end - literals.next);
  if (rest > static_cast<size_t>(to_end - to)) return damaged("zstd", "more literals than a block can have");
  std::copy_n(literals.next, rest, to);
  return to + rest;
}

}  // namespace keelson
