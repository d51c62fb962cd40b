#include "unpack/buffer_ring.h"

namespace keelson {

BufferRing::BufferRing(size_t count, size_t buffer_size) : slots_(count) {
  for (auto& slot : slots_) slot.bytes.resize(buffer_size);
}

std::span<uint8_t> BufferRing::buffer() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return filled_ < slots_.size(); });
  return slots_[write_at_].bytes;
}

void BufferRing::publish(size_t length) {
  std::lock_guard lock(mutex_);
  slots_[write_at_].length = length;
  write_at_ = (write_at_ + 1) % slots_.size();
  ++filled_;
  changed_.notify_one();
}

void BufferRing::finish(Status end) {
  std::lock_guard lock(mutex_);
  end_ = std::move(end);
  finished_ = true;
  changed_.notify_one();
}

Result<std::span<const uint8_t>> BufferRing::next() {
  std::unique_lock lock(mutex_);
  if (holding_) {
    holding_ = false;
    read_at_ = (read_at_ + 1) % slots_.size();
    --filled_;
    changed_.notify_one();
  }
  changed_.wait(lock, [this] { return filled_ > 0 || finished_; });
  if (filled_ == 0) {
    if (!end_) return std::unexpected(end_.error());
    return std::span<const uint8_t>{};
  }
  holding_ = true;
  return std::span<const uint8_t>(slots_[read_at_].bytes.data(), slots_[read_at_].length);
}

}  // namespace keelson
