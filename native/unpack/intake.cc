#include "unpack/intake.h"

#include <fcntl.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "common/file.h"
#include "unpack/codec/decoder.h"
#include "unpack/codec/sha256.h"

namespace keelson {

namespace {

constexpr size_t read_size = 256 * 1024;

Result<size_t> read_some(int fd, std::span<uint8_t> into) {
  for (;;) {
    ssize_t got = ::read(fd, into.data(), into.size());
    if (got >= 0) return static_cast<size_t>(got);
    if (errno != EINTR) return fail_errno("read the layer's bytes");
  }
}

// The decoder's output: buffers of the ring, each published when it is full. Enforces the limit on decompressed bytes.
class Outlet {
 public:
  Outlet(BufferRing& ring, uint64_t max_bytes) : ring_(ring), left_(max_bytes), max_bytes_(max_bytes) {}

  // Room for at least one byte; waits until the consumer has released a buffer.
  std::span<uint8_t> room() {
    if (buffer_.empty()) buffer_ = ring_.buffer();
    return buffer_.subspan(filled_);
  }

  // Reports that `size` bytes were written to room().
  Status add(size_t size) {
    if (size > left_) {
      return fail(Kind::limit, "decompress the layer", "it is larger than " + std::to_string(max_bytes_) + " bytes");
    }
    left_ -= size;
    filled_ += size;
    if (filled_ == buffer_.size()) flush();
    return {};
  }

  void flush() {
    if (filled_ == 0) return;
    ring_.publish(filled_);
    buffer_ = {};
    filled_ = 0;
  }

 private:
  BufferRing& ring_;
  uint64_t left_;
  uint64_t max_bytes_;
  std::span<uint8_t> buffer_;
  size_t filled_ = 0;
};

class Intake {
 public:
  Intake(const IntakeOptions& options, BufferRing& ring)
      : options_(options), outlet_(ring, options.max_bytes), buffer_(read_size) {}

  Status run(IntakeReport& report) {
    for (;;) {
      std::span<const uint8_t> piece = TRY(read_piece());
      if (!decoder_) decoder_ = make_decoder(sniff(piece));
      if (piece.empty()) break;
      report.size += piece.size();
      // A compressed stream may contain any amount of data that decompresses to nothing: skippable frames, empty members.
      if (report.size > options_.max_bytes) {
        return fail(Kind::limit, "read the layer", "it is larger than " + std::to_string(options_.max_bytes) + " bytes");
      }
      hash_.update(piece);
      if (options_.blob >= 0) TRY(write_all(options_.blob, piece, "write the blob file"));
      TRY(inflate(piece));
      // The next read may wait for a slow network; meanwhile the consumer can unpack, or refuse, what has arrived.
      outlet_.flush();
    }
    TRY(decoder_->finish());
    report.digest = hash_.finish();
    return {};
  }

 private:
  // One read. The first piece has enough bytes to detect the format, unless the input is shorter.
  Result<std::span<const uint8_t>> read_piece() {
    size_t length = 0;
    for (;;) {
      size_t got = TRY(read_some(options_.input, std::span(buffer_).subspan(length)));
      length += got;
      if (got == 0 || decoder_ || length >= sniff_size) return std::span<const uint8_t>(buffer_).first(length);
    }
  }

  Status inflate(std::span<const uint8_t> piece) {
    bool full = false;  // the decoder may have more output
    while (!piece.empty() || full) {
      std::span<uint8_t> room = outlet_.room();
      Step step = TRY(decoder_->step(piece, room));
      TRY(outlet_.add(step.produced));
      piece = piece.subspan(step.consumed);
      full = step.produced == room.size();
    }
    return {};
  }

  IntakeOptions options_;
  Outlet outlet_;
  std::vector<uint8_t> buffer_;
  Sha256 hash_;
  std::unique_ptr<Decoder> decoder_;
};

}  // namespace

IntakeReport take_in(const IntakeOptions& options, BufferRing& ring) {
  // A larger pipe saves wakeups. This fails for sockets and files, which is harmless.
  (void)fcntl(options.input, F_SETPIPE_SZ, 1024 * 1024);
  IntakeReport report;
  ring.finish(Intake(options, ring).run(report));
  return report;
}

}  // namespace keelson
