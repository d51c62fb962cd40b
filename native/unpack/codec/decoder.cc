#include "unpack/codec/decoder.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "unpack/codec/gzip.h"
#include "unpack/codec/zstd.h"

namespace keelson {

namespace {

class PlainDecoder final : public Decoder {
  Result<Step> step(std::span<const uint8_t> input, std::span<uint8_t> output) override {
    size_t size = std::min(input.size(), output.size());
    std::copy_n(input.begin(), size, output.begin());
    return Step{.consumed = size, .produced = size};
  }
  Status finish() const override { return {}; }
};

// A sequence of members or frames, as pigz, pzstd and appending to a file produce it. The first bytes of each are checked
// before the library sees them: nothing else may follow a member.
class MembersDecoder final : public Decoder {
 public:
  MembersDecoder(Format format, std::unique_ptr<MemberDecoder> member) : format_(format), member_(std::move(member)) {}

 private:
  Result<Step> step(std::span<const uint8_t> input, std::span<uint8_t> output) override {
    if (!inside_) return begin_member(input, output);
    Step step = TRY(member_->decode(input, output));
    if (step.ended) end_member();
    else if (step.consumed + step.produced == 0 && !input.empty()) return damaged(format_, "the decoder makes no progress");
    return step;
  }

  Status finish() const override {
    if (!inside_ && begun_ == 0 && any_member_) return {};
    return damaged(format_, "the stream is truncated");
  }

  Result<Step> begin_member(std::span<const uint8_t> input, std::span<uint8_t> output) {
    size_t taken = std::min(input.size(), sniff_size - begun_);
    std::copy_n(input.begin(), taken, beginning_.begin() + begun_);
    begun_ += taken;
    if (begun_ < sniff_size) return Step{.consumed = taken};
    if (sniff(beginning_) != format_) {
      return damaged(format_, any_member_ ? "there are bytes after the end of the stream" : "the stream has no valid header");
    }
    TRY(member_->decode(beginning_, output));
    inside_ = true;
    return Step{.consumed = taken};
  }

  void end_member() {
    inside_ = false;
    begun_ = 0;
    any_member_ = true;
  }

  Format format_;
  std::unique_ptr<MemberDecoder> member_;
  std::array<uint8_t, sniff_size> beginning_{};
  size_t begun_ = 0;         // bytes in `beginning_`, the start of the next member
  bool inside_ = false;      // a member has begun and not ended
  bool any_member_ = false;  // a member has ended
};

bool starts_with(std::span<const uint8_t> bytes, std::string_view magic) {
  return bytes.size() >= magic.size() &&
         std::ranges::equal(bytes.first(magic.size()), magic, {}, {}, [](char c) { return static_cast<uint8_t>(c); });
}

}  // namespace

Format sniff(std::span<const uint8_t> first_bytes) {
  if (starts_with(first_bytes, "\x1f\x8b\x08")) return Format::gzip;
  if (starts_with(first_bytes, "\x28\xb5\x2f\xfd")) return Format::zstd;
  // A skippable frame: 0x184d2a50 to 0x184d2a5f, little-endian.
  if (starts_with(first_bytes.subspan(std::min<size_t>(1, first_bytes.size())), "\x2a\x4d\x18") &&
      first_bytes[0] >> 4 == 5) {
    return Format::zstd;
  }
  return Format::plain;
}

std::unique_ptr<Decoder> make_decoder(Format format) {
  switch (format) {
    case Format::gzip: return std::make_unique<MembersDecoder>(format, make_gzip_decoder());
    case Format::zstd: return std::make_unique<MembersDecoder>(format, make_zstd_decoder());
    case Format::plain: break;
  }
  return std::make_unique<PlainDecoder>();
}

std::unexpected<Error> damaged(Format format, std::string what) {
  return fail(Kind::invalid, format == Format::gzip ? "decode gzip" : "decode zstd", std::move(what));
}

}  // namespace keelson
