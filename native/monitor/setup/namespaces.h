// The namespaces of a pod's processes: joined by their path; user namespaces as id maps; a PID namespace that is shared,
// with its procfs, which the kernel makes only for one who lives in there; and the PID 1 of the pod's own.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/fd.h"
#include "monitor/pod/sandbox.h"
#include "monitor/setup/child.h"
#include "monitor/setup/mounts.h"
#include "monitor/setup/spec.h"

namespace keelson {

struct JoinedNamespace {
  int flag = 0;  // CLONE_NEW*
  std::string path;
  Fd fd;
};

// Opens those that have a path, and checks that each is of the kind it is called.
Result<std::vector<JoinedNamespace>> open_namespaces(const std::vector<NamespaceSpec>& spaces);

void join_namespaces(const Child& child, const std::vector<JoinedNamespace>& spaces);

// Of the namespaces without a path: the CLONE_NEW* that a process is to begin in.
uint64_t new_namespaces(const std::vector<NamespaceSpec>& spaces);

// A process that does nothing but hold namespaces until they are pinned or opened; it ends with this object.
class NamespaceHolder {
 public:
  // `flags`: CLONE_NEW* besides the user namespace, which owns them.
  static Result<NamespaceHolder> create(uint64_t flags, const std::vector<IdMapping>& uids,
                                        const std::vector<IdMapping>& gids);
  NamespaceHolder(NamespaceHolder&& other) noexcept;
  NamespaceHolder& operator=(NamespaceHolder&&) = delete;
  ~NamespaceHolder();

  int pidfd() const { return pidfd_.get(); }
  std::string path(const char* name) const;  // of the namespace "user", "net" …

 private:
  NamespaceHolder() = default;
  pid_t pid_ = 0;
  Fd pidfd_;
};

// The host's id for a container's; the kernel's overflow id for one that is not mapped.
uint32_t host_id(const std::vector<IdMapping>& mappings, uint32_t id);

// In the child: from the host's root to the root of the user namespace behind `fd`.
void enter_user_namespace(const Child& child, int fd);
// In a user namespace already: its root is somebody else than the one who came in.
void become_namespace_root(const Child& child);

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
  Fd find_procfs(const Child& child, const MountSpec& spec) const;

  Fd space_;   // set: there is one
  Fd mounts_;  // the mount namespace that its procfs is found in: the pod's, which has nothing else, or the target's
  bool is_targets_ = false;
  std::string owner_;  // for messages
};

class Loop;
class Reaper;

// PID 1 of a pod with a shared PID namespace: ours, built in, in place of a pause image.
struct PodInit {
  pid_t pid = 0;
  // A mount namespace whose root is a procfs of the PID namespace and which holds nothing else. Who is outside
  // cannot make such a procfs; nobody but the monitor gets at this one, on which nothing is masked.
  Fd procfs_space;
};

// Spawns it in a new PID namespace and the caller's other ones, with an empty read-only
// root, no capability and, where it may take it, the SELinux label; in the user namespace behind the descriptor, unless
// that is -1. It reaps orphans and does nothing else; it dies by SIGKILL from the monitor, and with the monitor. Runs
// the loop meanwhile.
Result<PodInit> start_pod_init(Loop& loop, Reaper& reaper, int user_namespace, const std::string& label);

}  // namespace keelson
