// The kernel's OOM killer: noticing that it struck in a container's cgroup, and keeping it off the monitor itself.
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
  // Reads the kernel's count of kills now. True when there were some that were not known yet; tells of them.
  bool check();
  // True when there was any kill.
  bool killed() const { return killed_; }

 private:
  bool take_event();
  void on_event();
  void look_again();

  Loop& loop_;
  const Cgroup& cgroup_;
  Loop::Task on_kill_;
  // The cgroup was made for the container, so every kill counts, also one before the watch began.
  uint64_t known_kills_ = 0;
  bool killed_ = false;
  Fd events_;
  Loop::Watch watch_;
  Loop::Timer again_;
  int looks_left_ = 0;
};

// The monitor's own oom_score_adj: it must be the last to be killed, its children not.
class OomScore {
 public:
  // Lowers it to -999. Without CAP_SYS_RESOURCE the kernel refuses, and everything stays as it was.
  void lower();

  // While one lives the score is what it was: a process spawned now inherits that, unless its spec says otherwise.
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
