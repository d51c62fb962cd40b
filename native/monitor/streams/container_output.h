// A running container's output: read from its pipes or terminal into its log, and to whoever is attached.
#pragma once

#include <array>
#include <optional>

#include "monitor/streams/attach.h"
#include "monitor/streams/cri_log.h"

namespace keelson {

class ContainerOutput {
 public:
  // `log` is empty for a container without a log: its output is still read, for the pipe must not fill.
  ContainerOutput(Loop& loop, std::optional<Log> log) : loop_(loop), log_(std::move(log)) {}

  // Starts reading; `err` is absent for a terminal.
  Status open(Fd out, Fd err);
  AttachedClients& attached() { return attached_; }
  std::optional<Log>& log() { return log_; }

  // The container's init is dead. Reads what it left, then waits for the streams' ends (others may hold
  // the pipes) for at most a second, ends the log, and calls `on_end`, perhaps at once.
  void finish(Loop::Task on_end);

 private:
  struct Source {
    Fd fd;
    Loop::Watch watch;
  };

  bool read_some(Stream stream);
  void close(Stream stream);
  void check_end();

  Loop& loop_;
  std::optional<Log> log_;
  std::array<Source, 2> sources_;
  AttachedClients attached_;
  Loop::Timer deadline_;
  Loop::Task on_end_;
};

}  // namespace keelson
