// The cgroup of a container or pod in every hierarchy of the host, on cgroup v2 or v1 (hybrid). Paths are in cgroupfs
// form, below each hierarchy's root.
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
  // Creates the missing directories (including parents); on failure removes those it created.
  static Result<Cgroup> create(const CgroupHost& host, std::string path);
  // Opens an existing cgroup: one created by an OCI runtime, or the pod's own.
  static Cgroup open(const CgroupHost& host, std::string path);

  const std::string& path() const { return path_; }
  const CgroupHost& host() const { return *host_; }
  // O_PATH descriptor of the v2 directory for clone3(CLONE_INTO_CGROUP); -1 on a host without v2.
  int clone_fd() const { return clone_fd_.get(); }
  // The same for the cgroup that `member` is in. No Fd unless that is this cgroup or a descendant.
  Fd clone_fd_of(pid_t member) const;
  // The `tasks` files of the v1 hierarchies (none on unified), for a child that joins by itself: a single thread that
  // writes "0" avoids waiting 10 ms or more for an RCU grace period, which writing another process's id to cgroup.procs
  // costs (see join_v1_cgroups).
  std::vector<std::string> v1_task_files() const;
  // Applies OCI linux.resources, all or nothing.
  Status apply(const Json& resources);
  // Thaws frozen processes so that they can die (cgroup-v1/freezer-subsystem.rst); v2 does not need it.
  void thaw() const;
  // Thaws and kills everything inside: with cgroup.kill if it exists (hybrid has it too), else SIGKILL to each pid.
  Status kill_all() const;
  // Removes the directories, children first. False: something is still inside, retry.
  Result<bool> remove();

 private:
  Cgroup(const CgroupHost& host, std::string path);

  std::string path_;
  const CgroupHost* host_ = nullptr;
  Fd clone_fd_;
};

// Kills everything in a cgroup and removes it, retrying for at most 5 s while the kernel still counts a dying process.
void remove_cgroup(Loop& loop, const CgroupHost& host, std::string path, std::move_only_function<void(Status)> done);

// In a single-threaded child: moves itself into the hierarchies of these files.
void join_v1_cgroups(const Child& child, const std::vector<std::string>& task_files);

}  // namespace keelson
