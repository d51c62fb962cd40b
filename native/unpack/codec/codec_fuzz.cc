// libFuzzer's target: whatever the bytes, a decoder ends, stays in its memory, and gives the same
// bytes and the same verdict however its input is cut.
//
// GCC builds it, as clang 14 cannot compile std::expected: GCC calls __sanitizer_cov_trace_pc at every
// edge, and this file counts those calls where libFuzzer looks for coverage.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <span>

#include "unpack/codec/decoder.h"
#include "unpack/codec/sha256.h"

extern "C" void __sanitizer_cov_8bit_counters_init(uint8_t* begin, uint8_t* end);

namespace {

using namespace keelson;

alignas(4096) uint8_t edge_counters[1 << 16];

[[gnu::constructor, gnu::no_sanitize_coverage]] void register_counters() {
  __sanitizer_cov_8bit_counters_init(edge_counters, edge_counters + sizeof edge_counters);
}

constexpr uint64_t max_output = 16 << 20;

// The digest of what a valid stream decodes to; nothing when it is refused, or too long to wait for.
using Verdict = std::optional<std::array<uint8_t, 32>>;

Verdict decode(Format format, std::span<const uint8_t> stream, size_t feed) {
  auto decoder = make_decoder(format);
  Sha256 hash;
  uint64_t size = 0;
  for (;;) {
    std::span<const uint8_t> piece = stream.first(std::min(feed, stream.size()));
    stream = stream.subspan(piece.size());
    for (;;) {
      Result<Step> step = decoder->step(piece);
      if (!step) return std::nullopt;
      if (step->idle()) break;
      hash.update(step->output);
      size += step->output.size();
      piece = piece.subspan(step->consumed);
      if (size > max_output) return std::nullopt;
    }
    if (!piece.empty()) std::abort();
    if (stream.empty()) break;
  }
  if (!decoder->finish()) return std::nullopt;
  return hash.finish();
}

}  // namespace

extern "C" [[gnu::no_sanitize_coverage]] void __sanitizer_cov_trace_pc() {
  uintptr_t edge = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
  uint8_t& counter = edge_counters[(edge ^ (edge >> 16)) % sizeof edge_counters];
  if (counter < UINT8_MAX) counter++;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::span<const uint8_t> stream(data, size);
  for (Format format : {Format::gzip, Format::zstd}) {
    Verdict whole = decode(format, stream, std::max<size_t>(size, 1));
    Verdict pieces = decode(format, stream, 1 + size % 7);
    if (whole != pieces) std::abort();
  }
  return 0;
}
