// Reads a process's output (pipe, terminal, or socket) into a connection, no faster than the client reads.
#pragma once

#include <functional>

#include "monitor/server/connection.h"

namespace keelson {

class OutputPump {
 public:
  // `connection` outlives the pump.
  OutputPump(Loop& loop, Scratch& scratch, Connection& connection, FrameType type, Fd fd)
      : loop_(loop), scratch_(scratch), connection_(connection), type_(type), fd_(std::move(fd)) {}
  // `on_end` is called once, at the end of the stream.
  Status open(Loop::Task on_end);
  // The connection has room again.
  void resume();
  // Ends the stream behind what stands in the pipe now (somebody else may keep it open for ever).
  void end_behind_present();
  bool ended() const { return !fd_; }
  int fd() const { return fd_.get(); }

 private:
  void read_some();
  void finish();

  Loop& loop_;
  Scratch& scratch_;
  Connection& connection_;
  FrameType type_;
  Fd fd_;
  Loop::Watch watch_;
  Loop::Task on_end_;
  bool bounded_ = false;
  size_t left_ = 0;  // bytes still to read, when bounded
};

}  // namespace keelson
