// Reaps every child: a signalfd reports that children exited, waitid(2) how.
//
// Processes started for containers have `child_exit_signal` until their execve, when the kernel resets it to SIGCHLD
// (execve(2)). So the kernel reports, without a race, whether a dead process had executed its command.
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

  // A process that a child of the monitor will clone as a child of the monitor (CLONE_PARENT). The kernel writes its id
  // to `pid` before it runs (CLONE_PARENT_SETTID), so its exit is never mistaken for that of an unknown process.
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
  // While a hold exists, unexpected exits are remembered for a later expect(): an OCI runtime reports its container's
  // pid only after that process has become a child of the monitor.
  std::shared_ptr<void> hold();
  // For a process that was reaped before its caller could expect it: expect() finds it between these two calls.
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
