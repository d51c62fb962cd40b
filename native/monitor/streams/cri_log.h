// A container's log file in the CRI format:
// `<RFC 3339 time> <stdout|stderr> <P|F> <content>\n`, P for a line that continues in the next record.
//
// A line longer than 16384 bytes becomes P records of exactly that size and a final F record; an unfinished line at the
// end of a stream becomes a P record. Each read becomes one batch: one timestamp, one buffer, one write(2).
// If the write fails, the batch is dropped and counted: the container does not wait for disk space. A file system that
// does not answer blocks the writer, which is the log thread (log_thread.h).
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

  // `path` is absolute and contains no link. A missing file is created with mode 0640, and so are its directories.
  static Result<Log> open(std::string path);
  // Writes bytes that were read from the container at `time_ns` (now_ns()).
  void write(Stream stream, std::string_view bytes, int64_t time_ns, SharedBuffers& buffers);
  // The stream has ended.
  void end(Stream stream, int64_t time_ns, SharedBuffers& buffers);
  // Opens the path again and switches to the new file. On failure the old one stays in use.
  Status reopen();

 private:
  class Batch;
  void flush(std::string_view batch);
  void drop(std::string_view batch, size_t written, int error);

  std::string path_;
  Fd file_;
  uint64_t dropped_bytes_ = 0;   // not yet reported in a warning
  bool warned_ = false;          // about failing writes
  int64_t next_warning_ns_ = 0;  // at most one a minute: on a nearly full disk, writes fail and succeed in turn
  std::array<std::string, 2> unfinished_;  // the start of a line, at most max_content bytes
};

}  // namespace keelson
