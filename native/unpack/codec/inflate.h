// DEFLATE (RFC 1951): one stream's blocks, decoded in pieces.
#pragma once

#include <array>
#include <cstdint>

#include "common/error.h"
#include "unpack/codec/bit_reader.h"
#include "unpack/codec/inflate_symbols.h"
#include "unpack/codec/inflate_table.h"

namespace keelson {

enum class InflateEnd : uint8_t {
  hungry,  // the input is used up
  full,    // the output has reached its limit
  ended,   // the last block has ended; the input stands at the bit behind it
};

class Inflater {
 public:
  // Decodes until one of InflateEnd. The 32 KiB before output.next, or all since
  // output.oldest, must stay in place from call to call.
  Result<InflateEnd> run(BitReader& input, InflateOutput& output);

  // Ready for another stream.
  void reset();

 private:
  enum class State : uint8_t {
    block_header,
    stored_length,
    stored,
    counts,
    code_length_lengths,
    lengths,
    symbols,
    ended,
  };

  // One state's work: true when it is done and `state_` says what is next, false when hungry.
  Result<bool> read_block_header(BitReader& input);
  Result<bool> read_stored_length(BitReader& input);
  Result<bool> read_counts(BitReader& input);
  Result<bool> read_code_length_lengths(BitReader& input);
  Result<bool> read_lengths(BitReader& input);

  InflateEnd copy_stored(BitReader& input, InflateOutput& output);
  Result<InflateEnd> run_symbols(BitReader& input, InflateOutput& output);
  Status use_fixed_tables();
  Status build_tables();
  State after_block() const { return last_block_ ? State::ended : State::block_header; }

  State state_ = State::block_header;
  bool last_block_ = false;
  bool fixed_tables_ = false;   // the tables are those of the fixed codes
  uint32_t stored_left_ = 0;    // bytes of a stored block still to come
  unsigned length_count_ = 0;   // HLIT + 257
  unsigned distance_count_ = 0; // HDIST + 1
  unsigned code_length_count_ = 0;  // HCLEN + 4
  unsigned lengths_read_ = 0;   // how many of the list being read are there
  std::array<uint8_t, 19> code_length_lengths_{};
  std::array<uint8_t, 286 + 30> lengths_{};  // literals' and lengths', then distances'
  std::array<InflateEntry, code_length_table_size> code_length_table_{};
  std::array<InflateEntry, length_table_size> length_table_{};
  std::array<InflateEntry, distance_table_size> distance_table_{};
};

}  // namespace keelson
