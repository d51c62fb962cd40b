// A compressed stream goes in piece by piece, decoded bytes come out.
//
//   while ((input = read()) is not empty) {
//     bool full = false;
//     while (!input.empty() || full) {
//       Step step = TRY(decoder->step(input, output));
//       use(output.first(step.produced));
//       input = input.subspan(step.consumed);
//       full = step.produced == output.size();
//     }
//   }
//   TRY(decoder->finish());
//
// Headers and frames that hold nothing are skipped as they come and may be any number: whoever feeds the decoder
// bounds the bytes fed, and those that come out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "common/error.h"

namespace keelson {

struct Step {
  size_t consumed = 0;  // bytes taken from the front of the input
  size_t produced = 0;  // bytes written to the front of the output
  bool ended = false;   // of a MemberDecoder: the member is complete and was sound; the next call begins another one
};

class Decoder {
 public:
  virtual ~Decoder() = default;

  // Decodes what fits into `output`, which is not empty. The input may be cut anywhere. Takes or gives at least one
  // byte while there is input. Fails with kind `invalid` when the stream is damaged or asks for what is not
  // supported, with kind `system` when there is no memory for its window; and is of no use from then on.
  virtual Result<Step> step(std::span<const uint8_t> input, std::span<uint8_t> output) = 0;

  // After the last step(): fails with kind `invalid` when the stream has not come to its end. Checksums that the
  // stream carries have been compared by then. An empty stream is valid only when plain.
  virtual Status finish() const = 0;
};

enum class Format : uint8_t { plain, gzip, zstd };

// Enough first bytes to tell every format; a shorter stream is judged by what there is of it.
inline constexpr size_t sniff_size = 4;
Format sniff(std::span<const uint8_t> first_bytes);

// gzip: any number of members, each with its CRC-32 and length checked. zstd: any number of frames and skippable
// frames, content checksums and sizes checked; no dictionary, windows of at most 128 MiB. Bytes behind the last of
// them that begin no other are an error.
std::unique_ptr<Decoder> make_decoder(Format format);

// What a compressed stream is a sequence of: gzip members (gzip.h), zstd frames (zstd.h).
class MemberDecoder {
 public:
  virtual ~MemberDecoder() = default;

  // As Decoder::step. A member's first call has its first `sniff_size` bytes alone, and takes them all.
  virtual Result<Step> decode(std::span<const uint8_t> input, std::span<uint8_t> output) = 0;
};

// The error for a stream that cannot be decoded.
std::unexpected<Error> damaged(Format format, std::string what);

}  // namespace keelson
