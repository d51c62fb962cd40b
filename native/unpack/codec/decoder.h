// A compressed stream goes in piece by piece, spans of decoded bytes come out.
//
// Bounds: history (gzip: 32 KiB; zstd: 128 MiB, allocated as the frame header says and used as it fills), output of
// one step (256 KiB), a zstd block (128 KiB). Headers and frames that hold nothing are skipped as they come and may
// be any number: whoever feeds the decoder bounds the bytes fed, and those that come out.
//
//   while ((input = read()) is not empty) {
//     for (;;) {
//       Result<Step> step = decoder->step(input);
//       if (!step) return std::unexpected(step.error());
//       use(step->output);
//       input = input.subspan(step->consumed);
//       if (step->idle()) break;  // and input is empty now
//     }
//   }
//   Status end = decoder->finish();
//
// The decoder owns the memory it decodes into, which is also the history that
// later bytes refer back to: nothing is copied to hand output over.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "common/error.h"

namespace keelson {

struct Step {
  size_t consumed = 0;              // bytes taken from the front of the input
  std::span<const uint8_t> output;  // valid until the next call, and while the input's memory is

  // Neither took nor gave: all input is consumed, and only more of it brings the stream on.
  bool idle() const { return consumed == 0 && output.empty(); }
};

class Decoder {
 public:
  virtual ~Decoder() = default;

  // Decodes a bounded piece (at most 256 KiB of output, or as much as `input` when
  // the stream is plain). Pieces may be cut anywhere. Fails with kind `invalid` when
  // the stream is damaged or asks for what is not supported, with kind `system` when there is
  // no memory for its window; and from then on always.
  Result<Step> step(std::span<const uint8_t> input);

  // To be called when the input has ended and step() is idle: fails with kind
  // `invalid` when the stream has not come to its end. Checksums that the stream carries
  // have been compared by then. An empty stream is valid only when plain.
  Status finish();

 private:
  virtual Result<Step> advance(std::span<const uint8_t> input) = 0;
  virtual Status check_ended() const = 0;

  std::optional<Error> failure_;
};

enum class Format : uint8_t { plain, gzip, zstd };

// Enough first bytes to tell every format; a shorter stream is judged by what there is of it.
inline constexpr size_t sniff_size = 4;
Format sniff(std::span<const uint8_t> first_bytes);

// Hands the input on as it is; needs no memory.
std::unique_ptr<Decoder> make_plain_decoder();

// RFC 1952: any number of members, each with its CRC-32 and length checked. Bytes behind
// the last member that are not a member are an error. Memory: 0.4 MiB.
std::unique_ptr<Decoder> make_gzip_decoder();

// RFC 8878: any number of frames and skippable frames, content checksums and sizes checked.
// Refuses dictionaries and windows above 128 MiB. Memory: the largest window of the
// stream's frames and 0.7 MiB.
std::unique_ptr<Decoder> make_zstd_decoder();

// The decoder for a format that sniff() found.
std::unique_ptr<Decoder> make_decoder(Format format);

}  // namespace keelson
