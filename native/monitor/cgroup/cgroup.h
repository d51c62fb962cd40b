// One cgroup of a container or pod, on cgroup v2 or on v1 (hybrid), behind one
// small interface. Paths are in cgroupfs form, below each hierarchy's root.
// Sources: cgroup-v2.rst, cgroup-v1/*.rst, OCI config-linux.md.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"
#include "common/fd.h"
#include "common/json.h"

namespace keelson {

// The hierarchies that this host has mounted, found once from /proc/self/mountinfo.
class CgroupHost {
 public:
  static Result<CgroupHost> detect();
  // From a file of that format.
  static Result<CgroupHost> read(const char* path);
  bool unified() const { return unified_only_; }              // cgroup v2 alone
  const std::string& v2_root() const { return v2_root_; }     // "" when there is none; ".../unified" on hybrid
  const std::vector<std::pair<std::string, std::string>>& v1() const { return v1_; }  // controller, mount point
  std::vector<std::string> v1_roots() const;                  // the mount points, each once
  std::string v1_root(std::string_view controller) const;     // "" when it is not mounted

 private:
  void take(std::string_view line);

  bool unified_only_ = false;
  std::string v2_root_;
  std::vector<std::pair<std::string, std::string>> v1_;
};

class Cgroup {
 public:
  // Makes the directories that are missing (parents too); on failure removes those it made.
  static Result<Cgroup> create(const CgroupHost& host, std::string path);
  // Takes up one that exists, after a re-exec or for the pod's own.
  static Cgroup open(const CgroupHost& host, std::string path);

  const std::string& path() const { return path_; }
  const CgroupHost& host() const { return *host_; }
  // O_PATH descriptor for clone3(CLONE_INTO_CGROUP): the v2 directory, or none on a host without one.
  int clone_fd() const { return clone_fd_.get(); }
  // The `tasks` files of the v1 hierarchies (none on unified), for a child that joins by
  // itself: "0" written by a single thread spares the wait of 10 ms and more for an RCU grace
  // period that writing another process's id to cgroup.procs costs (see join_v1_cgroups).
  std::vector<std::string> v1_task_files() const;
  // Applies OCI linux.resources, all or nothing.
  Status apply(const Json& resources);
  // An eventfd or inotify descriptor that becomes readable when something may have been OOM-killed.
  Result<Fd> oom_watch() const;
  // The kernel's count of OOM kills in this cgroup (memory.events oom_kill, v1 memory.oom_control oom_kill).
  uint64_t oom_kills() const;
  // Lets processes die that somebody froze (cgroup-v1/freezer-subsystem.rst); v2 needs no thaw for that.
  void thaw() const;
  // Thaws and kills everything inside: cgroup.kill where there is one (hybrid has it too), else SIGKILL to each pid.
  Status kill_all() const;
  // Removes the directories, children first; EBUSY is retried for at most 500 ms without
  // blocking the loop: returns false when the caller must come again.
  Result<bool> remove();

 private:
  Cgroup(const CgroupHost& host, std::string path);

  std::string path_;
  const CgroupHost* host_ = nullptr;
  Fd clone_fd_;
};

class Child;
// In a child of one thread: moves itself into the hierarchies behind these files.
void join_v1_cgroups(const Child& child, const std::vector<std::string>& task_files);

}  // namespace keelson
