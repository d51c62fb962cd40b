// A PID namespace that a container shares: a neighbour's, found when the container starts, or the pod's; and the
// procfs of it, which the kernel makes only for one who lives in that namespace.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "common/error.h"
#include "common/fd.h"
#include "monitor/pod/sandbox.h"
#include "monitor/setup/child.h"
#include "monitor/setup/mounts.h"
#include "monitor/setup/namespaces.h"

namespace keelson {

// The PID namespace of a neighbour, who may have been another process when the bundle was written.
class PidTarget {
 public:
  PidTarget() = default;
  // `pid` is a child of ours that has not been reaped. For as long as this object lives `bundle`/pid-namespace,
  // which config.json names, leads to its namespace.
  static Result<PidTarget> resolve(std::string id, pid_t pid, const std::string& bundle);
  PidTarget(PidTarget&& other) noexcept = default;
  PidTarget& operator=(PidTarget&& other) noexcept;
  ~PidTarget() { drop(); }

  explicit operator bool() const { return static_cast<bool>(pidfd_); }
  const std::string& id() const { return id_; }
  int pidfd() const { return pidfd_.get(); }

 private:
  void drop();

  std::string id_;
  Fd pidfd_;
  Fd space_;
  std::string link_;  // empty: none was made
};

// The PID namespace that a container's init joins, if it is to be no new one.
class SharedPidNamespace {
 public:
  // Takes it out of those that are joined first. It must be the pod's, or that of `target`.
  static Result<SharedPidNamespace> plan(const Sandbox& sandbox, const PidTarget& target, const ContainerSpec& spec,
                                         std::vector<JoinedNamespace>& joined);

  explicit operator bool() const { return static_cast<bool>(space_); }
  std::vector<int> descriptors() const { return {space_.get(), mounts_.get()}; }

  // In the child: its own children are in the namespace from now on, whose procfs is at hand for each such mount.
  void join(const Child& child, std::vector<PlannedMount>& mounts) const;

 private:
  int find_procfs(const Child& child, const MountSpec& spec) const;

  Fd space_;   // set: there is one
  Fd mounts_;  // the mount namespace that its procfs is found in: the pod's, which has nothing else, or the target's
  bool is_targets_ = false;
  std::string owner_;  // for messages
};

}  // namespace keelson
