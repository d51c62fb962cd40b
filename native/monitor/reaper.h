// Reaps every child: SIGCHLD arrives through a signalfd, waitid(2) says how each ended.
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>

#include "loop.h"

namespace keelson {

struct ProcessExit {
  int code = 0;    // 128 + signal for a death by signal
  int signal = 0;  // 0 for a normal exit
  int64_t time_ns = 0;
};

class Reaper {
 public:
  using Handler = std::move_only_function<void(const ProcessExit&)>;

  // While one lives, exits nobody expects are remembered for a later expect(): an OCI
  // runtime tells us its container's pid only after that process became our child.
  class Hold {
   public:
    explicit Hold(Reaper& reaper) : reaper_(&reaper) { ++reaper.holds_; }
    Hold(Hold&& other) noexcept : reaper_(std::exchange(other.reaper_, nullptr)) {}
    Hold& operator=(Hold&&) = delete;
    ~Hold();

   private:
    Reaper* reaper_;
  };

  explicit Reaper(Loop& loop) : loop_(loop) {}
  // Blocks SIGCHLD for this process.
  Status open();
  // Calls `handler` once, from the loop, when the child has been reaped.
  void expect(pid_t pid, Handler handler);

 private:
  void reap();

  Loop& loop_;
  Fd signals_;
  Loop::Watch watch_;
  std::map<pid_t, Handler> expected_;
  std::map<pid_t, ProcessExit> unclaimed_;
  int holds_ = 0;
};

}  // namespace keelson
