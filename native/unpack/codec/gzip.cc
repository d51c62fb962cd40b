// The gzip container (RFC 1952): members, their headers and trailers, around DEFLATE streams.
#include <algorithm>
#include <array>
#include <cstring>

#include "unpack/codec/bit_reader.h"
#include "unpack/codec/crc32.h"
#include "unpack/codec/damaged.h"
#include "unpack/codec/decoder.h"
#include "unpack/codec/inflate.h"

namespace keelson {

namespace {

constexpr size_t history_size = 32 * 1024;  // RFC 1951, section 2: the farthest distance
constexpr size_t piece_size = 256 * 1024;   // output of one step, at most; overshoot included
constexpr size_t window_size = history_size + piece_size;

// Flags of a member's header (section 2.3.1).
constexpr unsigned flag_header_crc = 1 << 1;
constexpr unsigned flag_extra = 1 << 2;
constexpr unsigned flag_name = 1 << 3;
constexpr unsigned flag_comment = 1 << 4;
constexpr unsigned flags_reserved = 0xe0;

class GzipDecoder final : public Decoder {
 private:
  enum class State : uint8_t {
    magic,
    origin,
    extra_length,
    extra,
    name,
    comment,
    header_crc,
    body,
    content_crc,
    content_size,
  };

  Result<Step> advance(std::span<const uint8_t> input) override;
  Status check_ended() const override;

  // Goes on through trailer and header, a state at a time: true at a body, false when hungry.
  Result<bool> read_framing();
  Result<bool> read_magic();
  bool skip_origin();
  bool read_extra_length();
  bool skip_extra();
  bool skip_text(unsigned flag);
  Result<bool> check_header_crc();
  Result<bool> check_content_crc();
  Result<bool> check_content_size();

  uint8_t take_header_byte();
  void make_room();

  State state_ = State::magic;
  bool any_member_ = false;  // one has ended
  unsigned flags_ = 0;
  uint32_t header_crc_ = 0;
  uint32_t extra_left_ = 0;
  uint32_t content_crc_ = 0;
  uint32_t content_size_ = 0;  // modulo 2^32, as the trailer has it

  BitReader input_;
  Inflater inflater_;
  uint8_t* next_ = window_.data();
  const uint8_t* oldest_ = window_.data();  // the member's first byte still held
  std::array<uint8_t, window_size> window_;
};

Result<Step> GzipDecoder::advance(std::span<const uint8_t> input) {
  input_.feed(input);
  make_room();
  uint8_t* const begin = next_;
  uint8_t* const limit = window_.data() + window_size - inflate_overshoot;

  while (next_ == begin) {
    Result<bool> at_body = read_framing();
    if (!at_body) return std::unexpected(at_body.error());
    if (!*at_body) break;
    uint8_t* const from = next_;
    InflateOutput output = {from, limit, oldest_};
    Result<InflateEnd> end = inflater_.run(input_, output);
    if (!end) return std::unexpected(end.error());
    next_ = output.next;
    std::span<const uint8_t> decoded(from, next_);
    content_crc_ = crc32(content_crc_, decoded);
    content_size_ += static_cast<uint32_t>(decoded.size());
    if (*end != InflateEnd::ended) break;
    input_.align_to_byte();
    state_ = State::content_crc;
  }
  return Step{input.size() - input_.left(), {begin, next_}};
}

Status GzipDecoder::check_ended() const {
  if (state_ == State::magic && input_.count == 0 && any_member_) return {};
  return damaged("gzip", "the stream is cut short");
}

// Keeps the history in place and frees what lies before it once the piece is used up.
void GzipDecoder::make_room() {
  size_t used = static_cast<size_t>(next_ - window_.data());
  if (used < window_size - inflate_overshoot) return;
  size_t dropped = used - history_size;
  std::memmove(window_.data(), window_.data() + dropped, history_size);
  next_ -= dropped;
  size_t before_oldest = static_cast<size_t>(oldest_ - window_.data());
  oldest_ -= std::min(before_oldest, dropped);
}

Result<bool> GzipDecoder::read_framing() {
  while (state_ != State::body) {
    Result<bool> done = true;
    switch (state_) {
      case State::magic: done = read_magic(); break;
      case State::origin: done = skip_origin(); break;
      case State::extra_length: done = read_extra_length(); break;
      case State::extra: done = skip_extra(); break;
      case State::name: done = skip_text(flag_name); break;
      case State::comment: done = skip_text(flag_comment); break;
      case State::header_crc: done = check_header_crc(); break;
      case State::content_crc: done = check_content_crc(); break;
      case State::content_size: done = check_content_size(); break;
      case State::body: break;
    }
    if (!done || !*done) return done;
  }
  return true;
}

uint8_t GzipDecoder::take_header_byte() {
  uint8_t byte = static_cast<uint8_t>(input_.take(8));
  header_crc_ = crc32(header_crc_, {&byte, 1});
  return byte;
}

Result<bool> GzipDecoder::read_magic() {
  if (!input_.has(32)) return false;
  header_crc_ = 0;
  if (take_header_byte() != 0x1f || take_header_byte() != 0x8b) {
    return damaged("gzip", any_member_ ? "bytes behind the end of the stream" : "not a gzip stream");
  }
  if (take_header_byte() != 8) return damaged("gzip", "a compression method other than DEFLATE");
  flags_ = take_header_byte();
  if (flags_ & flags_reserved) return damaged("gzip", "a header with reserved flags set");
  state_ = State::origin;
  return true;
}

// Time, compression level and system mean nothing to us.
bool GzipDecoder::skip_origin() {
  if (!input_.has(48)) return false;
  for (int i = 0; i < 6; i++) take_header_byte();
  state_ = State::extra_length;
  return true;
}

bool GzipDecoder::read_extra_length() {
  if (flags_ & flag_extra) {
    if (!input_.has(16)) return false;
    extra_left_ = take_header_byte();
    extra_left_ |= uint32_t{take_header_byte()} << 8;
  }
  state_ = State::extra;
  return true;
}

bool GzipDecoder::skip_extra() {
  while (extra_left_ > 0) {
    if (!input_.has(8)) return false;
    take_header_byte();
    extra_left_--;
  }
  state_ = State::name;
  return true;
}

// A text of any length that ends with a zero byte.
bool GzipDecoder::skip_text(unsigned flag) {
  while (flags_ & flag) {
    if (!input_.has(8)) return false;
    if (take_header_byte() == 0) break;
  }
  state_ = flag == flag_name ? State::comment : State::header_crc;
  return true;
}

Result<bool> GzipDecoder::check_header_crc() {
  if (flags_ & flag_header_crc) {
    if (!input_.has(16)) return false;
    if (input_.take(16) != (header_crc_ & 0xffff)) return damaged("gzip", "a header's checksum is wrong");
  }
  inflater_.reset();
  content_crc_ = 0;
  content_size_ = 0;
  oldest_ = next_;
  state_ = State::body;
  return true;
}

Result<bool> GzipDecoder::check_content_crc() {
  if (!input_.has(32)) return false;
  if (input_.take(32) != content_crc_) return damaged("gzip", "the content's checksum is wrong");
  state_ = State::content_size;
  return true;
}

Result<bool> GzipDecoder::check_content_size() {
  if (!input_.has(32)) return false;
  if (input_.take(32) != content_size_) return damaged("gzip", "the content's length is wrong");
  any_member_ = true;
  state_ = State::magic;
  return true;
}

}  // namespace

std::unique_ptr<Decoder> make_gzip_decoder() {
  return std::make_unique_for_overwrite<GzipDecoder>();
}

}  // namespace keelson
