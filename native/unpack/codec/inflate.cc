// DEFLATE's blocks: their headers, their codes, and stored bytes.
#include "unpack/codec/inflate.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "unpack/codec/damaged.h"

namespace keelson {

namespace {

std::unexpected<Error> damaged_block(std::string what) {
  return damaged("gzip", std::move(what));
}

}  // namespace

void Inflater::reset() {
  state_ = State::block_header;
  last_block_ = false;
}

Result<InflateEnd> Inflater::run(BitReader& input, InflateOutput& output) {
  for (;;) {
    Result<bool> done = true;
    switch (state_) {
      case State::block_header: done = read_block_header(input); break;
      case State::stored_length: done = read_stored_length(input); break;
      case State::counts: done = read_counts(input); break;
      case State::code_length_lengths: done = read_code_length_lengths(input); break;
      case State::lengths: done = read_lengths(input); break;
      case State::stored: {
        InflateEnd end = copy_stored(input, output);
        if (end != InflateEnd::ended) return end;
        state_ = after_block();
        break;
      }
      case State::symbols: {
        Result<InflateEnd> end = run_symbols(input, output);
        if (!end || *end != InflateEnd::ended) return end;
        state_ = after_block();
        break;
      }
      case State::ended: return InflateEnd::ended;
    }
    if (!done) return std::unexpected(done.error());
    if (!*done) return InflateEnd::hungry;
  }
}

Result<bool> Inflater::read_block_header(BitReader& input) {
  if (!input.has(3)) return false;
  last_block_ = input.take(1) == 1;
  switch (input.take(2)) {
    case 0:
      input.align_to_byte();
      state_ = State::stored_length;
      return true;
    case 1:
      if (Status built = use_fixed_tables(); !built) return std::unexpected(built.error());
      state_ = State::symbols;
      return true;
    case 2: state_ = State::counts; return true;
    default: return damaged_block("a block of type 3, which does not exist");
  }
}

// RFC 1951, section 3.2.4.
Result<bool> Inflater::read_stored_length(BitReader& input) {
  if (!input.has(32)) return false;
  uint32_t length = input.take(16);
  uint32_t complement = input.take(16);
  if (length != (complement ^ 0xffff)) return damaged_block("a stored block's length contradicts its complement");
  stored_left_ = length;
  state_ = State::stored;
  return true;
}

InflateEnd Inflater::copy_stored(BitReader& input, InflateOutput& output) {
  while (stored_left_ > 0 && input.count > 0 && output.next < output.limit) {
    *output.next++ = static_cast<uint8_t>(input.take(8));
    stored_left_--;
  }
  if (output.next < output.limit) {
    size_t room = static_cast<size_t>(output.limit - output.next);
    size_t size = std::min({size_t{stored_left_}, room, input.left()});
    std::copy_n(input.next, size, output.next);
    input.next += size;
    output.next += size;
    stored_left_ -= static_cast<uint32_t>(size);
  }
  if (stored_left_ == 0) return InflateEnd::ended;
  return output.next < output.limit ? InflateEnd::hungry : InflateEnd::full;
}

// RFC 1951, section 3.2.7, as are the next two.
Result<bool> Inflater::read_counts(BitReader& input) {
  if (!input.has(14)) return false;
  length_count_ = input.take(5) + 257;
  distance_count_ = input.take(5) + 1;
  code_length_count_ = input.take(4) + 4;
  if (length_count_ > 286 || distance_count_ > 30) return damaged_block("a block with more codes than there are symbols");
  code_length_lengths_.fill(0);
  lengths_read_ = 0;
  state_ = State::code_length_lengths;
  return true;
}

Result<bool> Inflater::read_code_length_lengths(BitReader& input) {
  static constexpr std::array<uint8_t, 19> order = {16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
                                                    11, 4,  12, 3, 13, 2, 14, 1, 15};
  while (lengths_read_ < code_length_count_) {
    if (!input.has(3)) return false;
    code_length_lengths_[order[lengths_read_++]] = static_cast<uint8_t>(input.take(3));
  }
  if (!build_table(code_length_alphabet, code_length_lengths_, code_length_table_)) {
    return damaged_block("a block whose code lengths' lengths are no prefix code");
  }
  lengths_read_ = 0;
  state_ = State::lengths;
  return true;
}

Result<bool> Inflater::read_lengths(BitReader& input) {
  const unsigned all = length_count_ + distance_count_;
  while (lengths_read_ < all) {
    input.has(7 + 7);
    InflateEntry entry = code_length_table_[input.peek(7)];
    unsigned symbol = value_of(entry);
    unsigned extra_bits = symbol < 16 ? 0 : symbol == 16 ? 2 : symbol == 17 ? 3 : 7;
    if (input.count < bits_of(entry) + extra_bits) return false;
    input.drop(bits_of(entry));
    if (entry & entry_special) return damaged_block("a code length with an unused code");
    if (symbol < 16) {
      lengths_[lengths_read_++] = static_cast<uint8_t>(symbol);
      continue;
    }
    if (symbol == 16 && lengths_read_ == 0) return damaged_block("a block that begins by repeating a code length");
    uint8_t repeated = symbol == 16 ? lengths_[lengths_read_ - 1] : 0;
    unsigned times = input.take(extra_bits) + (symbol == 18 ? 11 : 3);
    if (times > all - lengths_read_) return damaged_block("a block that repeats a code length past the last symbol");
    std::fill_n(lengths_.begin() + lengths_read_, times, repeated);
    lengths_read_ += times;
  }
  if (Status built = build_tables(); !built) return std::unexpected(built.error());
  state_ = State::symbols;
  return true;
}

Status Inflater::build_tables() {
  std::span<const uint8_t> all = lengths_;
  if (all[256] == 0) return damaged_block("a block without a code for its end");
  fixed_tables_ = false;
  if (!build_table(length_alphabet, all.first(length_count_), length_table_)) {
    return damaged_block("a block whose literal and length codes are no prefix code");
  }
  if (!build_table(distance_alphabet, all.subspan(length_count_, distance_count_), distance_table_)) {
    return damaged_block("a block whose distance codes are no prefix code");
  }
  return {};
}

// RFC 1951, section 3.2.6.
Status Inflater::use_fixed_tables() {
  if (fixed_tables_) return {};
  std::array<uint8_t, 288> lengths;
  std::fill(lengths.begin(), lengths.begin() + 144, uint8_t{8});
  std::fill(lengths.begin() + 144, lengths.begin() + 256, uint8_t{9});
  std::fill(lengths.begin() + 256, lengths.begin() + 280, uint8_t{7});
  std::fill(lengths.begin() + 280, lengths.end(), uint8_t{8});
  std::array<uint8_t, 32> distances;
  distances.fill(5);
  fixed_tables_ = build_table(length_alphabet, lengths, length_table_) &&
                  build_table(distance_alphabet, distances, distance_table_);
  if (!fixed_tables_) return damaged_block("the fixed codes are no prefix code");
  return {};
}

Result<InflateEnd> Inflater::run_symbols(BitReader& input, InflateOutput& output) {
  switch (decode_symbols(input, output, length_table_.data(), distance_table_.data())) {
    case SymbolsEnd::hungry: return InflateEnd::hungry;
    case SymbolsEnd::full: return InflateEnd::full;
    case SymbolsEnd::block_end: return InflateEnd::ended;
    case SymbolsEnd::too_far_back: return damaged_block("a match that reaches back before the first byte");
    case SymbolsEnd::invalid_code: break;
  }
  return damaged_block("a code that stands for no symbol");
}

}  // namespace keelson
