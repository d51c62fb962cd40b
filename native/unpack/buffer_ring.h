// A bounded ring of buffers between the thread that reads and decompresses and the thread that writes files.
//
// One producer, one consumer. Memory is fixed: `count` buffers of `buffer_size` bytes.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "common/error.h"

namespace keelson {

// The source of a tar stream, read chunk by chunk.
class ChunkSource {
 public:
  virtual ~ChunkSource() = default;
  // The next bytes, valid until the next call; empty at the end of the stream.
  virtual Result<std::span<const uint8_t>> next() = 0;
};

class BufferRing : public ChunkSource {
 public:
  BufferRing(size_t count, size_t buffer_size);

  // Producer: waits for a free buffer and returns it. Returns the same buffer until it is published.
  std::span<uint8_t> buffer();
  // Producer: hands the buffer's first `length` bytes over.
  void publish(size_t length);
  // Producer, once, as the last call: the end of the data. The consumer gets a failure after all data.
  void finish(Status end);

  Result<std::span<const uint8_t>> next() override;

 private:
  struct Slot {
    std::vector<uint8_t> bytes;
    size_t length = 0;
  };

  std::vector<Slot> slots_;
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t filled_ = 0;       // published and not yet released; includes the one the consumer holds
  size_t write_at_ = 0;     // producer's slot
  size_t read_at_ = 0;      // consumer's slot
  bool holding_ = false;    // the consumer uses slots_[read_at_]
  bool finished_ = false;
  Status end_;
};

}  // namespace keelson
