// The output of a zstd frame: where its blocks are decoded to, and its matches copied from.
//
// A ring whose blocks are never split: a block that would not fit at the end begins
// at the front again, and what was written before stays readable as `previous`,
// the history's older part, until it is overwritten more than a window later.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>

#include "unpack/codec/copy.h"

namespace keelson {

inline constexpr size_t zstd_max_block = 128 * 1024;

class ZstdWindow {
 public:
  // Begins a frame whose matches reach `reach` bytes back at most, in blocks of at most
  // `max_block` bytes. False when there is no memory.
  bool begin_frame(size_t reach, size_t max_block) {
    size_t needed = reach + 2 * (max_block + copy_overshoot);
    if (needed > capacity_) {
      buffer_.reset();
      buffer_.reset(new (std::nothrow) uint8_t[needed]);
      capacity_ = buffer_ ? needed : 0;
    }
    reach_ = reach;
    max_block_ = max_block;
    next_ = buffer_.get();
    previous_size_ = 0;
    return buffer_ != nullptr;
  }

  // Room for a block; what the last one held is history from here on.
  uint8_t* begin_block() {
    size_t used = static_cast<size_t>(next_ - buffer_.get());
    if (capacity_ - used < max_block_ + copy_overshoot) {
      previous_size_ = used;
      next_ = buffer_.get();
    }
    return next_;
  }

  std::span<const uint8_t> end_block(uint8_t* end) {
    std::span<const uint8_t> block(next_, end);
    next_ = end;
    return block;
  }

  size_t max_block() const { return max_block_; }
  size_t reach() const { return reach_; }
  const uint8_t* oldest_in_line() const { return buffer_.get(); }  // a match from here on is in one piece

  // Copies a match that begins before oldest_in_line(). False when there is no such history.
  bool copy_from_previous(uint8_t* to, size_t distance, size_t size) const {
    size_t in_line = static_cast<size_t>(to - buffer_.get());
    if (distance > reach_ || distance - in_line > previous_size_) return false;
    size_t back = distance - in_line;
    size_t first = std::min(back, size);
    std::memmove(to, buffer_.get() + previous_size_ - back, first);
    if (size > first) copy_match(to + first, distance, size - first);
    return true;
  }

 private:
  std::unique_ptr<uint8_t[]> buffer_;
  size_t capacity_ = 0;
  size_t reach_ = 0;
  size_t max_block_ = 0;
  uint8_t* next_ = nullptr;
  size_t previous_size_ = 0;  // bytes that stood from the buffer's start on before it was begun anew
};

}  // namespace keelson
