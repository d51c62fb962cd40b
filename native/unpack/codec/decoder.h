// Decompresses a stream piece by piece.
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
// Headers and empty frames are skipped and not limited in number: the caller must limit both the input and the output.
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
  bool ended = false;   // of a MemberDecoder: the member is complete and valid; the next call begins another one
};

class Decoder {
 public:
  virtual ~Decoder() = default;

  // Decodes as much as fits into `output`, which must not be empty. The input may be split anywhere. Consumes or produces
  // at least one byte while there is input. Fails with kind `invalid` if the stream is damaged or needs an unsupported
  // feature, with kind `system` if there is no memory for its window; the decoder must not be used after that.
  virtual Result<Step> step(std::span<const uint8_t> input, std::span<uint8_t> output) = 0;

  // Call it after the last step(): fails with kind `invalid` if the stream is incomplete. Checksums in the stream were
  // verified before. An empty stream is valid only as a plain one.
  virtual Status finish() const = 0;
};

enum class Format : uint8_t { plain, gzip, zstd };

// Enough bytes to detect every format; a shorter stream is judged by the bytes it has.
inline constexpr size_t sniff_size = 4;
Format sniff(std::span<const uint8_t> first_bytes);

// gzip: any number of members; each one's CRC-32 and length are checked. zstd: any number of frames and skippable frames;
// content checksums and sizes are checked; no dictionaries, windows of at most 128 MiB. Trailing bytes that are not another
// member or frame are an error.
std::unique_ptr<Decoder> make_decoder(Format format);

// Decodes the members of a compressed stream: gzip members (gzip.h) or zstd frames (zstd.h).
class MemberDecoder {
 public:
  virtual ~MemberDecoder() = default;

  // As Decoder::step. The first call for a member gets exactly its first `sniff_size` bytes and consumes them all.
  virtual Result<Step> decode(std::span<const uint8_t> input, std::span<uint8_t> output) = 0;
};

// The error for a stream that cannot be decoded.
std::unexpected<Error> damaged(Format format, std::string what);

}  // namespace keelson
