// Reaps every child: a signalfd tells of ends, waitid(2) says how each ended.
//
// Processes that we start for containers have `child_exit_signal` until their execve, when
// the kernel makes it SIGCHLD (execve(2)): so the kernel itself says, race-free and past all
// doubt, whether a process that is dead had executed its command.
#pragma once

#include <sys/types.h>

#include <csignal>
#include <functional>
#include <list>
#include <map>
#include <memory>

#include "monitor/server/loop.h"

namespace keelson {

constexpr int child_exit_signal = SIGUSR1;

struct ProcessExit {
  int code = 0;    // 128 + signal for a death by signal
  int signal = 0;  // 0 for a normal exit
  int64_t time_ns = 0;
  bool executed = true;
};

class Reaper {
 public:
  using Handler = std::move_only_function<void(const ProcessExit&)>;

  // A process that a child of ours is going to clone as our child (CLONE_PARENT). The kernel writes its id
  // to `pid` before it runs (CLONE_PARENT_SETTID), so its exit is never taken for a stranger's.
  // `pid` outlives this object.
  class FutureChild {
   public:
    FutureChild(Reaper& reaper, const volatile pid_t& pid, Handler handler);
    FutureChild(const FutureChild&) = delete;
    FutureChild& operator=(const FutureChild&) = delete;
    ~FutureChild();

   private:
    friend class Reaper;
    Reaper& reaper_;
    const volatile pid_t& pid_;
    Handler handler_;
    std::list<FutureChild*>::iterator place_;
  };

  explicit Reaper(Loop& loop) : loop_(loop) {}
  // Blocks SIGCHLD and `child_exit_signal` for this process.
  Status open();
  // Calls `handler` once, from the loop, when the child has been reaped.
  void expect(pid_t pid, Handler handler);
  // While one lives, exits nobody expects are remembered for a later expect(): an OCI
  // runtime tells us its container's pid only after that process became our child.
  std::shared_ptr<void> hold();
  // For one that was reaped before anybody could expect it: between these two, expect() finds it.
  void remember(pid_t pid, const ProcessExit& exit) { unclaimed_[pid] = exit; }
  void forget(pid_t pid) { unclaimed_.erase(pid); }

 private:
  bool reap_one(int kind, bool executed);

  Loop& loop_;
  Fd signals_;
  Loop::Watch watch_;
  std::map<pid_t, Handler> expected_;
  std::list<FutureChild*> future_;
  std::map<pid_t, ProcessExit> unclaimed_;
  std::weak_ptr<void> holds_;
};

}  // namespace keelson
