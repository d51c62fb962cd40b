// One cgroup of a container or pod in every hierarchy of the host, on cgroup v2 or on v1 (hybrid), behind one
// small interface. Paths are in cgroupfs form, below each hierarchy's root.
// Sources: cgroup-v2.rst, cgroup-v1/*.rst, OCI config-linux.md.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/fd.h"
#include "common/json.h"
#include "monitor/cgroup/cgroupfs.h"

namespace keelson {

class Child;
class Loop;

class Cgroup {
 public:
  // Makes the directories that are missing (parents too); on failure removes those it made.
  static Result<Cgroup> create(const CgroupHost& host, std::string path);
  // Takes up one that exists: an OCI runtime has made it, or it is the pod's own.
  static Cgroup open(const CgroupHost& host, std::string path);

  const std::string& path() const { return path_; }
  const CgroupHost& host() const { return *host_; }
  // O_PATH descriptor for clone3(CLONE_INTO_CGROUP): the v2 directory, or none on a host without one.
  int clone_fd() const { return clone_fd_.get(); }
  // The same of the cgroup that `member` is in. None unless that is this one or lies below it.
  Fd clone_fd_of(pid_t member) const;
  // The `tasks` files of the v1 hierarchies (none on unified), for a child that joins by
  // itself: "0" written by a single thread spares the wait of 10 ms and more for an RCU grace
  // period that writing another process's id to cgroup.procs costs (see join_v1_cgroups).
  std::vector<std::string> v1_task_files() const;
  // Applies OCI linux.resources, all or nothing.
  Status apply(const Json& resources);
  // Lets processes die that somebody froze (cgroup-v1/freezer-subsystem.rst); v2 needs no thaw for that.
  void thaw() const;
  // Thaws and kills everything inside: cgroup.kill where there is one (hybrid has it too), else SIGKILL to each pid.
  Status kill_all() const;
  // Removes the directories, children first. False: something is still inside, come again.
  Result<bool> remove();

 private:
  Cgroup(const CgroupHost& host, std::string path);

  std::string path_;
  const CgroupHost* host_ = nullptr;
  Fd clone_fd_;
};

// Kills what is in a cgroup and removes it, coming again for at most 5 s while the kernel
// still counts a dying process in.
void remove_cgroup(Loop& loop, const CgroupHost& host, std::string path, std::move_only_function<void(Status)> done);

// In a child of one thread: moves itself into the hierarchies behind these files.
void join_v1_cgroups(const Child& child, const std::vector<std::string>& task_files);

}  // namespace keelson
