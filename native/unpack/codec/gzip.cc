// Uses ISA-L's inflate and gzip header reader. The header is read here rather than inside isal_inflate(3), which loses the
// header's flags if its input ends in the middle of the header, and ignores reserved flags.
#include "unpack/codec/gzip.h"

#include <isa-l/igzip_lib.h>

#include <algorithm>
#include <limits>

namespace keelson {

namespace {

constexpr uint32_t reserved_flags = 0xe0;  // RFC 1952, section 2.3.1

std::unexpected<Error> damaged_header(int answer) {
  if (answer == ISAL_INCORRECT_CHECKSUM) return damaged(Format::gzip, "a header's checksum is wrong");
  return damaged(Format::gzip, "a header is not valid");
}

std::unexpected<Error> damaged_body(int answer) {
  switch (answer) {
    case ISAL_INVALID_BLOCK: return damaged(Format::gzip, "a block has an invalid header");
    case ISAL_INVALID_SYMBOL: return damaged(Format::gzip, "a code is not assigned to a symbol");
    case ISAL_INVALID_LOOKBACK: return damaged(Format::gzip, "a match refers to data before the start of the content");
    case ISAL_INCORRECT_CHECKSUM: return damaged(Format::gzip, "the content's checksum or length is wrong");
    default: return damaged(Format::gzip, "ISA-L error " + std::to_string(answer));
  }
}

uint32_t most(size_t size) {
  return static_cast<uint32_t>(std::min<size_t>(size, std::numeric_limits<uint32_t>::max()));
}

class GzipDecoder final : public MemberDecoder {
 public:
  GzipDecoder() { begin(); }

 private:
  void begin() {
    isal_inflate_init(&state_);
    state_.crc_flag = ISAL_GZIP_NO_HDR_VER;  // verify the trailer; the header is read separately
    isal_gzip_header_init(&header_);
    in_header_ = true;
  }

  Result<Step> decode(std::span<const uint8_t> input, std::span<uint8_t> output) override {
    state_.next_in = const_cast<uint8_t*>(input.data());
    state_.avail_in = most(input.size());
    state_.next_out = output.data();
    state_.avail_out = most(output.size());
    TRY(read_header());
    if (!in_header_) {
      if (int answer = isal_inflate(&state_); answer < 0) return damaged_body(answer);
    }
    Step step;
    step.consumed = static_cast<size_t>(state_.next_in - input.data());
    step.produced = static_cast<size_t>(state_.next_out - output.data());
    step.ended = state_.block_state == ISAL_BLOCK_FINISH;
    if (step.ended) begin();
    return step;
  }

  Status read_header() {
    if (!in_header_) return {};
    int answer = isal_read_gzip_header(&state_, &header_);
    if (answer < 0) return damaged_header(answer);
    if (answer == ISAL_END_INPUT) return {};
    if ((header_.flags & reserved_flags) != 0) return damaged(Format::gzip, "a header has reserved flags set");
    in_header_ = false;
    return {};
  }

  inflate_state state_;
  isal_gzip_header header_;
  bool in_header_;
};

}  // namespace

std::unique_ptr<MemberDecoder> make_gzip_decoder() { return std::make_unique<GzipDecoder>(); }

}  // namespace keelson
