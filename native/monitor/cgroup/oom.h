// The kernel's OOM killer: detecting its kills in a container's cgroup, and protecting the monitor itself from it.
#pragma once

#include <string>

#include "monitor/cgroup/cgroup.h"
#include "monitor/server/loop.h"

namespace keelson {

class OomWatch {
 public:
  OomWatch(Loop& loop, const Cgroup& cgroup, Loop::Task on_kill)
      : loop_(loop), cgroup_(cgroup), on_kill_(std::move(on_kill)) {}
  Status open();
  // Reads the kernel's count of kills now. Calls `on_kill` and returns true if there were new ones.
  bool check();
  // True if there was any kill.
  bool killed() const { return killed_; }

 private:
  bool take_event();
  void on_event();
  void check_again();

  Loop& loop_;
  const Cgroup& cgroup_;
  Loop::Task on_kill_;
  // The cgroup was created for the container, so every kill counts, even one before the watch began.
  uint64_t known_kills_ = 0;
  bool killed_ = false;
  Fd events_;
  Loop::Watch watch_;
  Loop::Timer again_;
  int checks_left_ = 0;
};

// Whether the kernel has killed a process in the cgroup for lack of memory since the cgroup was created.
bool has_oom_kill(const Cgroup& cgroup);

// The monitor's own oom_score_adj: the monitor must be killed last, but its children must not inherit that.
class OomScore {
 public:
  // Lowers it to -999. Without CAP_SYS_RESOURCE the kernel refuses, and the score stays unchanged.
  void lower();

  // Restores the original score during its lifetime: a process spawned now inherits it unless its spec sets another.
  class Original {
   public:
    explicit Original(const OomScore& score);
    ~Original();
    Original(const Original&) = delete;
    Original& operator=(const Original&) = delete;

   private:
    const OomScore& score_;
  };

 private:
  std::string original_;  // empty while it is not lowered
};

}  // namespace keelson
