// A container's log in the CRI format:
// `<RFC 3339 time> <stdout|stderr> <P|F> <content>\n`, P for a line that goes on in the next record.
//
// A line longer than 16384 bytes becomes P records of exactly that size and a last F; what is left at the end of a stream
// without a newline becomes a P. All lines of one read have one timestamp. They are formatted here, and written by the log
// thread (log_writer.h).
//
// When the disk refuses (it is full, or broken), records are dropped and counted: the container does not wait for room. When
// the disk does not answer, has_room() says so, and whoever reads the container's output must wait.
#pragma once

#include <array>
#include <deque>
#include <memory>
#include <string>
#include <string_view>

#include "common/error.h"
#include "monitor/server/loop.h"
#include "monitor/streams/log_writer.h"

namespace keelson {

enum class Stream : uint8_t { out = 0, err = 1 };

class Log : private LogWriter::Client {
 public:
  static constexpr size_t max_content = 16384;

  // See LogFile for what `path` may be. Answers from the loop, never at once.
  static void open(Loop& loop, LogWriter& writer, std::string path, Done<std::unique_ptr<Log>> done);
  Log(LogWriter& writer, std::shared_ptr<LogFile> file) : writer_(writer), file_(std::move(file)) {}
  ~Log();
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  // Is called after has_room() or is_flushed() was false, when that may have changed.
  void on_progress(Loop::Task task) { on_progress_ = std::move(task); }
  // Whether write() should be called: what finds no buffer is kept in memory, and that must be less than `kept`.
  bool has_room(size_t kept = 0) {
    return given_up_ || pending_bytes() < kept || (format_pending() && writer_.await_buffer(*this));
  }
  // Bytes as they were read from the container at `time_ns` (now_ns()).
  void write(Stream stream, std::string_view bytes, int64_t time_ns) { put(stream, bytes, time_ns, false); }
  // The stream has ended.
  void end(Stream stream, int64_t time_ns) { put(stream, {}, time_ns, true); }
  // Whether all that was passed to write() and end() has been written or dropped.
  bool is_flushed() { return given_up_ || (format_pending() && writer_.await(*this, last_write_)); }
  // Drops what has not been handed to the log thread, and from now on everything else.
  void give_up();
  // Opens the path again; the old file gets no further byte after `done`. After a failure it stays in use.
  void reopen(DoneStatus done) { writer_.open(file_, std::move(done)); }

 private:
  struct Input {
    Stream stream;
    std::string bytes;
    int64_t time_ns;
    bool ends;
  };
  class Batch;

  void put(Stream stream, std::string_view bytes, int64_t time_ns, bool ends);
  bool format(Stream stream, std::string_view& bytes, int64_t time_ns, bool ends);
  bool fill(Batch& batch, Stream stream, std::string_view& bytes, bool ends);
  bool format_pending();
  size_t pending_bytes() const;
  void on_progress() override;
  void on_written(LogFile::Appended appended) override;
  void count_lost(size_t bytes, std::string_view reason);

  LogWriter& writer_;
  std::shared_ptr<LogFile> file_;
  Loop::Task on_progress_;
  uint64_t last_write_ = 0;    // its number with the writer
  std::deque<Input> pending_;  // what has found no room
  bool given_up_ = false;
  size_t lost_bytes_ = 0;        // that no warning has counted yet
  bool warned_ = false;          // of a disk that refuses
  int64_t next_warning_ns_ = 0;  // a nearly full disk takes every other batch: one warning a minute will do
  std::array<std::string, 2> unfinished_;  // a line's start, at most max_content bytes
};

}  // namespace keelson
