// A container's log file in the CRI format:
// `<RFC 3339 time> <stdout|stderr> <P|F> <content>\n`, P for a line that goes on in the next record.
//
// A line longer than 16384 bytes becomes P records of exactly that size and a last
// F; what stands at the end of a stream without a newline becomes a P. One read is
// one batch: one timestamp, formatted into one buffer, written by one write(2).
// When the disk refuses, the batch is dropped and counted: the container does not wait for room. A file system that
// does not answer blocks whoever writes: that is the log thread (log_thread.h).
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "common/error.h"
#include "common/fd.h"
#include "monitor/server/loop.h"

namespace keelson {

enum class Stream : uint8_t { out = 0, err = 1 };

class Log {
 public:
  static constexpr size_t max_content = 16384;

  // `path` absolute, without a link in it; created with mode 0640 when missing, its directories too.
  static Result<Log> open(std::string path);
  // Bytes as they were read from the container at `time_ns` (now_ns()).
  void write(Stream stream, std::string_view bytes, int64_t time_ns, SharedBuffers& buffers);
  // The stream has ended.
  void end(Stream stream, int64_t time_ns, SharedBuffers& buffers);
  // Opens the path again; the old file gets no further byte. On failure it stays in use.
  Status reopen();

 private:
  class Batch;
  void flush(std::string_view batch);
  void drop(std::string_view batch, size_t written, int error);

  std::string path_;
  Fd file_;
  uint64_t dropped_bytes_ = 0;   // that no warning has counted yet
  bool warned_ = false;          // of a disk that refuses
  int64_t next_warning_ns_ = 0;  // a nearly full disk takes every other batch: one warning a minute will do
  std::array<std::string, 2> unfinished_;  // a line's start, at most max_content bytes
};

}  // namespace keelson
