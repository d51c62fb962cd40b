// The zstd container (RFC 8878, section 3.1): frames and skippable frames, their headers, blocks and checksums.
#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "unpack/codec/bytes.h"
#include "unpack/codec/damaged.h"
#include "unpack/codec/decoder.h"
#include "unpack/codec/xxh64.h"
#include "unpack/codec/zstd_block.h"
#include "unpack/codec/zstd_window.h"

namespace keelson {

namespace {

constexpr uint64_t max_window = uint64_t{128} << 20;  // what `zstd -d` accepts by default, too

// Input in pieces of a size the decoder names; those cut in two by the caller are put together.
class Pieces {
 public:
  void feed(std::span<const uint8_t> input) { input_ = input; }
  size_t left() const { return input_.size(); }
  bool none_begun() const { return gathered_ == 0; }

  // The next `size` (at most zstd_max_block) bytes once all are there. Valid until the next call or feed.
  std::optional<std::span<const uint8_t>> take(size_t size) {
    if (gathered_ == 0 && input_.size() >= size) return skip(size);
    std::span<const uint8_t> part = skip(std::min(size - gathered_, input_.size()));
    std::copy_n(part.data(), part.size(), gathering_.data() + gathered_);
    gathered_ += part.size();
    if (gathered_ < size) return std::nullopt;
    gathered_ = 0;
    return std::span<const uint8_t>(gathering_.data(), size);
  }

  // At most input's rest.
  std::span<const uint8_t> skip(size_t size) {
    std::span<const uint8_t> part = input_.first(size);
    input_ = input_.subspan(size);
    return part;
  }

 private:
  std::span<const uint8_t> input_;
  size_t gathered_ = 0;
  std::array<uint8_t, zstd_max_block> gathering_;
};

enum class BlockType : uint8_t { raw, run, compressed, reserved };

class ZstdDecoder final : public Decoder {
 private:
  enum class State : uint8_t {
    magic,
    skippable_size,
    skippable,
    frame_descriptor,
    frame_header,
    block_header,
    block,
    checksum,
  };

  Result<Step> advance(std::span<const uint8_t> input) override;
  Status check_ended() const override;

  // One state's work: true when it is done and `state_` says what is next, false when hungry.
  Result<bool> go_on();
  Result<bool> read_magic();
  bool read_skippable_size();
  bool skip();
  Result<bool> read_frame_descriptor();
  Result<bool> read_frame_header();
  Result<bool> read_block_header();
  Result<bool> read_block();
  Result<bool> check_checksum();

  Status begin_frame(uint64_t window_size);
  void end_frame();

  State state_ = State::magic;
  bool any_frame_ = false;  // one has ended
  uint32_t skippable_left_ = 0;

  // Of the frame header's descriptor byte (section 3.1.1.1.1).
  bool single_segment_ = false;
  bool has_checksum_ = false;
  size_t dictionary_id_size_ = 0;
  size_t content_size_size_ = 0;

  std::optional<uint64_t> content_size_;
  uint64_t decoded_ = 0;  // bytes of the frame
  bool last_block_ = false;
  BlockType block_type_ = BlockType::raw;
  size_t block_size_ = 0;
  std::span<const uint8_t> output_;  // of the block just decoded

  Xxh64 hash_;
  ZstdWindow window_;
  ZstdBlocks blocks_;
  Pieces input_;
};

Result<Step> ZstdDecoder::advance(std::span<const uint8_t> input) {
  input_.feed(input);
  output_ = {};
  while (output_.empty()) {
    Result<bool> done = go_on();
    if (!done) return std::unexpected(done.error());
    if (!*done) break;
  }
  return Step{input.size() - input_.left(), output_};
}

Status ZstdDecoder::check_ended() const {
  if (state_ == State::magic && input_.none_begun() && any_frame_) return {};
  return damaged("zstd", "the stream is cut short");
}

Result<bool> ZstdDecoder::go_on() {
  switch (state_) {
    case State::magic: return read_magic();
    case State::skippable_size: return read_skippable_size();
    case State::skippable: return skip();
    case State::frame_descriptor: return read_frame_descriptor();
    case State::frame_header: return read_frame_header();
    case State::block_header: return read_block_header();
    case State::block: return read_block();
    case State::checksum: break;
  }
  return check_checksum();
}

Result<bool> ZstdDecoder::read_magic() {
  auto bytes = input_.take(4);
  if (!bytes) return false;
  uint32_t magic = load<uint32_t>(bytes->data());
  if (magic == 0xfd2fb528) {
    state_ = State::frame_descriptor;
  } else if ((magic & 0xfffffff0) == 0x184d2a50) {
    state_ = State::skippable_size;
  } else {
    return damaged("zstd", any_frame_ ? "bytes behind the end of the stream" : "not a zstd stream");
  }
  return true;
}

bool ZstdDecoder::read_skippable_size() {
  auto bytes = input_.take(4);
  if (!bytes) return false;
  skippable_left_ = load<uint32_t>(bytes->data());
  state_ = State::skippable;
  return true;
}

bool ZstdDecoder::skip() {
  size_t size = std::min<size_t>(skippable_left_, input_.left());
  input_.skip(size);
  skippable_left_ -= static_cast<uint32_t>(size);
  if (skippable_left_ > 0) return false;
  any_frame_ = true;
  state_ = State::magic;
  return true;
}

Result<bool> ZstdDecoder::read_frame_descriptor() {
  static constexpr std::array<uint8_t, 4> dictionary_id_sizes = {0, 1, 2, 4};
  auto bytes = input_.take(1);
  if (!bytes) return false;
  unsigned descriptor = bytes->front();
  if (descriptor & 8) return damaged("zstd", "a frame header with its reserved bit set");
  single_segment_ = descriptor & 0x20;
  has_checksum_ = descriptor & 4;
  dictionary_id_size_ = dictionary_id_sizes[descriptor & 3];
  unsigned size_flag = descriptor >> 6;
  content_size_size_ = size_flag == 0 && !single_segment_ ? 0 : size_t{1} << size_flag;
  state_ = State::frame_header;
  return true;
}

// Sections 3.1.1.1.2 to 3.1.1.1.4.
Result<bool> ZstdDecoder::read_frame_header() {
  size_t window_bytes = single_segment_ ? 0 : 1;
  auto bytes = input_.take(window_bytes + dictionary_id_size_ + content_size_size_);
  if (!bytes) return false;
  const uint8_t* id = bytes->data() + window_bytes;
  if (load_short(id, dictionary_id_size_) != 0) {
    return damaged("zstd", "the stream needs a dictionary, which is not supported: compress it without");
  }

  content_size_.reset();
  if (content_size_size_ > 0) {
    uint64_t size = load_short(id + dictionary_id_size_, content_size_size_);
    content_size_ = content_size_size_ == 2 ? size + 256 : size;
  }
  uint64_t window_size = content_size_.value_or(0);
  if (!single_segment_) {
    unsigned exponent = bytes->front() >> 3;
    unsigned mantissa = bytes->front() & 7;
    uint64_t base = uint64_t{1} << (10 + exponent);
    window_size = base + base / 8 * mantissa;
  }
  if (Status begun = begin_frame(window_size); !begun) return std::unexpected(begun.error());
  state_ = State::block_header;
  return true;
}

Status ZstdDecoder::begin_frame(uint64_t window_size) {
  if (window_size > max_window) {
    return damaged("zstd", "the stream needs a window of " + std::to_string(window_size) +
                               " bytes, above the limit of 128 MiB: compress it with a smaller one");
  }
  size_t max_block = std::min<size_t>(window_size, zstd_max_block);
  size_t reach = std::min(window_size, content_size_.value_or(window_size));
  if (!window_.begin_frame(reach, max_block)) return fail_errno("allocate a window for decoding zstd", ENOMEM);
  blocks_.begin_frame();
  hash_ = Xxh64();
  decoded_ = 0;
  return {};
}

// Section 3.1.1.2.
Result<bool> ZstdDecoder::read_block_header() {
  auto bytes = input_.take(3);
  if (!bytes) return false;
  uint64_t header = load_short(bytes->data(), 3);
  last_block_ = header & 1;
  block_type_ = static_cast<BlockType>((header >> 1) & 3);
  block_size_ = header >> 3;
  if (block_type_ == BlockType::reserved) return damaged("zstd", "a block of type 3, which is reserved");
  if (block_size_ > window_.max_block()) return damaged("zstd", "a block that is larger than its frame allows");
  state_ = State::block;
  return true;
}

Result<bool> ZstdDecoder::read_block() {
  auto bytes = input_.take(block_type_ == BlockType::run ? 1 : block_size_);
  if (!bytes) return false;
  uint8_t* to = window_.begin_block();
  if (block_type_ == BlockType::compressed) {
    Result<uint8_t*> end = blocks_.decode(*bytes, window_, to);
    if (!end) return std::unexpected(end.error());
    output_ = window_.end_block(*end);
  } else {
    if (block_type_ == BlockType::run) std::fill_n(to, block_size_, bytes->front());
    else std::copy_n(bytes->data(), block_size_, to);
    output_ = window_.end_block(to + block_size_);
  }

  decoded_ += output_.size();
  if (content_size_ && decoded_ > *content_size_) return damaged("zstd", "more content than the frame header says");
  if (has_checksum_) hash_.update(output_);
  if (!last_block_) {
    state_ = State::block_header;
  } else if (content_size_ && decoded_ < *content_size_) {
    return damaged("zstd", "less content than the frame header says");
  } else if (has_checksum_) {
    state_ = State::checksum;
  } else {
    end_frame();
  }
  return true;
}

// Section 3.1.1: the lowest four bytes of the content's XXH64.
Result<bool> ZstdDecoder::check_checksum() {
  auto bytes = input_.take(4);
  if (!bytes) return false;
  if (load<uint32_t>(bytes->data()) != static_cast<uint32_t>(hash_.digest())) {
    return damaged("zstd", "the content's checksum is wrong");
  }
  end_frame();
  return true;
}

void ZstdDecoder::end_frame() {
  any_frame_ = true;
  state_ = State::magic;
}

}  // namespace

std::unique_ptr<Decoder> make_zstd_decoder() {
  return std::make_unique_for_overwrite<ZstdDecoder>();
}

}  // namespace keelson
