// Notices that the kernel killed something in a container's cgroup for want of memory.
#pragma once

#include "monitor/cgroup/cgroup.h"
#include "monitor/server/loop.h"

namespace keelson {

class OomWatch {
 public:
  OomWatch(Loop& loop, const Cgroup& cgroup, Loop::Task on_kill)
      : loop_(loop), cgroup_(cgroup), on_kill_(std::move(on_kill)) {}
  Status open();
  // True when there were kills that were not known yet; tells of them.
  bool check();
  // True when there was any kill.
  bool killed() const { return killed_; }

 private:
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

}  // namespace keelson
