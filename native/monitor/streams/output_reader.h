// Reads a container's output on the log thread, into its log and, while clients are attached, to ContainerStreams.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "common/fd.h"
#include "monitor/streams/cri_log.h"
#include "monitor/streams/log_thread.h"
#include "monitor/streams/stdio.h"

namespace keelson {

class ContainerStreams;

class OutputReader {
 public:
  // For a container without a log: its output is read nevertheless, so that the pipes do not fill.
  static std::shared_ptr<OutputReader> without_log(LogThread& thread);
  // Opens the log on the thread, and calls `done` on the monitor's loop.
  static void with_log(LogThread& thread, std::string path, Done<std::shared_ptr<OutputReader>> done);
  OutputReader(LogThread& thread, std::optional<Log> log) : thread_(thread), log_(std::move(log)) {}

  // The other functions are called on the log thread.

  // Starts reading. Calls on_output() (while forwarding) and on_output_end() of `streams` on the monitor's loop.
  void begin(std::weak_ptr<ContainerStreams> streams, Fd out, Fd err);
  // While forwarding, each read is passed to on_output(), and the reader is then paused until resume().
  void forward_output(bool is_forwarding);
  void resume();
  // Reading is paused: lets the container write as much as possible before it blocks.
  void widen();
  Status reopen_log();
  // The container has exited: reads the remaining output, and continues until all writers have closed the pipes.
  void finish();
  // Reads what finish() could not, because the reader was paused, and then stops reading.
  void close();

 private:
  struct Source {
    Fd fd;
    PipeWidth width;
    Loop::Watch watch;
    int reads_after_exit = 0;
  };

  static std::shared_ptr<OutputReader> make(LogThread& thread, std::optional<Log> log);
  bool read_some(Stream stream);
  void read_rest();
  void update_watches();
  void close(Stream stream);
  void check_end();
  void notify(std::move_only_function<void(ContainerStreams&)> event);

  LogThread& thread_;
  std::optional<Log> log_;
  std::weak_ptr<ContainerStreams> streams_;
  std::array<Source, 2> sources_;
  bool is_forwarding_ = false;
  bool is_paused_ = false;
  bool is_finishing_ = false;
  bool is_closing_ = false;
  bool has_ended_ = false;
};

}  // namespace keelson
