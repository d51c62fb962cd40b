// Uses libzstd's streaming decoder, which handles frames, skippable frames, checksums and content sizes.
#include "unpack/codec/zstd.h"

#include <zstd.h>
#include <zstd_errors.h>

namespace keelson {

namespace {

constexpr int max_window_log = 27;  // 128 MiB, the default limit of `zstd -d`

std::unexpected<Error> failed(size_t answer) {
  switch (ZSTD_getErrorCode(answer)) {
    case ZSTD_error_memory_allocation: return fail_errno("allocate a window for decoding zstd", ENOMEM);
    case ZSTD_error_frameParameter_windowTooLarge:
      return damaged(Format::zstd, "the stream needs a window above the limit of 128 MiB: compress it with a smaller one");
    case ZSTD_error_dictionary_wrong:
      return damaged(Format::zstd, "the stream needs a dictionary, which is not supported: compress it without one");
    default: return damaged(Format::zstd, ZSTD_getErrorName(answer));
  }
}

class ZstdDecoder final : public MemberDecoder {
 public:
  ZstdDecoder() : context_(ZSTD_createDCtx()) {
    if (context_) ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, max_window_log);
  }

 private:
  Result<Step> decode(std::span<const uint8_t> input, std::span<uint8_t> output) override {
    if (!context_) return fail_errno("create a zstd decoder", ENOMEM);
    ZSTD_inBuffer from{input.data(), input.size(), 0};
    ZSTD_outBuffer to{output.data(), output.size(), 0};
    size_t answer = ZSTD_decompressStream(context_.get(), &to, &from);
    if (ZSTD_isError(answer)) return failed(answer);
    return Step{from.pos, to.pos, answer == 0};
  }

  struct Free {
    void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  };
  std::unique_ptr<ZSTD_DCtx, Free> context_;
};

}  // namespace

std::unique_ptr<MemberDecoder> make_zstd_decoder() { return std::make_unique<ZstdDecoder>(); }

}  // namespace keelson
