// Reads a container's output, on the log thread: into its log, and while clients are attached to ContainerStreams too.
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
  // For a container without a log: its output is read all the same, or the pipes would fill.
  static std::shared_ptr<OutputReader> without_log(LogThread& thread);
  // Opens the log on the thread, and answers on the monitor's loop.
  static void with_log(LogThread& thread, std::string path, Done<std::shared_ptr<OutputReader>> done);
  OutputReader(LogThread& thread, std::optional<Log> log) : thread_(thread), log_(std::move(log)) {}

  // All others are called on the log thread.

  // Begins to read. `streams` is told on the monitor's loop: on_output() of what is read while it is handed on, on_output_end().
  void begin(std::weak_ptr<ContainerStreams> streams, Fd out, Fd err);
  // From now on, or no longer, each read is handed on; after each the reader waits for go_on().
  void hand_on(bool is_handed_on);
  void go_on();
  // Nobody reads at the moment, and the container should go on as long as it can.
  void widen();
  Status reopen_log();
  // The container has exited: reads what it left, and on until all writers have closed the pipes.
  void finish();
  // Reads no more.
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
  void follow();
  void close(Stream stream);
  void check_end();
  void tell(std::move_only_function<void(ContainerStreams&)> what);

  LogThread& thread_;
  std::optional<Log> log_;
  std::weak_ptr<ContainerStreams> streams_;
  std::array<Source, 2> sources_;
  bool is_handed_on_ = false;
  bool waits_ = false;  // for go_on()
  bool is_finishing_ = false;
  bool has_ended_ = false;
};

}  // namespace keelson
