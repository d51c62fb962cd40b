#include "unpack/intake.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "unpack/codec/decoder.h"
#include "unpack/codec/sha256.h"
#include "unpack/write_all.h"

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

// Gathers the decoder's small pieces in ring buffers, so that they cost no hand-over each.
class Outlet {
 public:
  Outlet(BufferRing& ring, uint64_t max_bytes) : ring_(ring), left_(max_bytes), max_bytes_(max_bytes) {}

  Status put(std::span<const uint8_t> bytes) {
    if (bytes.size() > left_) {
      return fail(Kind::limit, "inflate the layer", "it is larger than " + std::to_string(max_bytes_) + " bytes");
    }
    left_ -= bytes.size();
    while (!bytes.empty()) {
      if (buffer_.empty()) buffer_ = ring_.buffer();
      size_t part = std::min(bytes.size(), buffer_.size() - filled_);
      memcpy(buffer_.data() + filled_, bytes.data(), part);
      filled_ += part;
      bytes = bytes.subspan(part);
      if (filled_ == buffer_.size()) flush();
    }
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
      Result<size_t> got = read_piece();
      if (!got) return std::unexpected(got.error());
      std::span<const uint8_t> piece(buffer_.data(), *got);
      if (!decoder_) decoder_ = make_decoder(sniff(piece));
      if (piece.empty()) break;
      report.size += piece.size();
      // A compressed stream may hold any amount of what inflates to nothing: skippable frames, empty members.
      if (report.size > options_.max_bytes) {
        return fail(Kind::limit, "read the layer", "it is larger than " + std::to_string(options_.max_bytes) + " bytes");
      }
      if (Status status = take(piece); !status) return status;
      // The next read may wait for a slow network: what is known by now can be unpacked, or refused.
      outlet_.flush();
    }
    if (Status end = decoder_->finish(); !end) return end;
    report.digest = hash_.finish();
    return {};
  }

 private:
  // One read; the very first piece has enough bytes to tell the format, or all there are.
  Result<size_t> read_piece() {
    size_t length = 0;
    for (;;) {
      Result<size_t> got = read_some(options_.input, std::span(buffer_).subspan(length));
      if (!got) return got;
      length += *got;
      if (*got == 0 || decoder_ || length >= sniff_size) return length;
    }
  }

  Status take(std::span<const uint8_t> piece) {
    hash_.update(piece);
    if (options_.blob >= 0) {
      if (Status written = write_all(options_.blob, piece, "write the blob file"); !written) return written;
    }
    for (;;) {
      Result<Step> step = decoder_->step(piece);
      if (!step) return std::unexpected(step.error());
      if (step->idle()) return {};
      if (Status put = outlet_.put(step->output); !put) return put;
      piece = piece.subspan(step->consumed);
    }
  }

  IntakeOptions options_;
  Outlet outlet_;
  std::vector<uint8_t> buffer_;
  Sha256 hash_;
  std::unique_ptr<Decoder> decoder_;
};

}  // namespace

IntakeReport take_in(const IntakeOptions& options, BufferRing& ring) {
  // Larger pipes save wake-ups; a socket or a file has no such size, and that is fine.
  (void)fcntl(options.input, F_SETPIPE_SZ, 1024 * 1024);
  IntakeReport report;
  ring.finish(Intake(options, ring).run(report));
  return report;
}

}  // namespace keelson
