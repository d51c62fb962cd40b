// What all decoders share: telling formats apart, staying failed, and the plain decoder.
#include "unpack/codec/decoder.h"

#include "unpack/codec/bytes.h"

namespace keelson {

namespace {

class PlainDecoder final : public Decoder {
  Result<Step> advance(std::span<const uint8_t> input) override { return Step{input.size(), input}; }
  Status check_ended() const override { return {}; }
};

}  // namespace

Result<Step> Decoder::step(std::span<const uint8_t> input) {
  if (failure_) return std::unexpected(*failure_);
  Result<Step> step = advance(input);
  if (!step) failure_ = step.error();
  return step;
}

Status Decoder::finish() {
  if (failure_) return std::unexpected(*failure_);
  return check_ended();
}

Format sniff(std::span<const uint8_t> first_bytes) {
  if (first_bytes.size() >= 3 && first_bytes[0] == 0x1f && first_bytes[1] == 0x8b && first_bytes[2] == 8) {
    return Format::gzip;
  }
  if (first_bytes.size() >= 4) {
    uint32_t magic = load<uint32_t>(first_bytes.data());
    bool skippable = (magic & 0xfffffff0) == 0x184d2a50;
    if (magic == 0xfd2fb528 || skippable) return Format::zstd;
  }
  return Format::plain;
}

std::unique_ptr<Decoder> make_plain_decoder() {
  return std::make_unique<PlainDecoder>();
}

std::unique_ptr<Decoder> make_decoder(Format format) {
  switch (format) {
    case Format::gzip: return make_gzip_decoder();
    case Format::zstd: return make_zstd_decoder();
    case Format::plain: break;
  }
  return make_plain_decoder();
}

}  // namespace keelson
