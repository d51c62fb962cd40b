// The namespaces of a pod's processes: joined by path; user namespaces as id maps; shared PID namespaces with their
// procfs, which can only be mounted by a process inside; and PID 1 of the pod's own PID namespace.
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

// Opens the namespaces that have a path, and checks the type of each.
Result<std::vector<JoinedNamespace>> open_namespaces(const std::vector<NamespaceSpec>& spaces);

void join_namespaces(const Child& child, const std::vector<JoinedNamespace>& spaces);

// The CLONE_NEW* flags of the namespaces without a path, which are created.
uint64_t new_namespaces(const std::vector<NamespaceSpec>& spaces);

// A process that only holds namespaces until they are pinned or opened; it is killed when this object is destroyed.
class NamespaceHolder {
 public:
  // `flags`: CLONE_NEW* in addition to the user namespace, which owns them.
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

// The host's id for a container's id; the kernel's overflow id if it is not mapped.
uint32_t host_id(const std::vector<IdMapping>& mappings, uint32_t id);

// In the child: from the host's root to the root of the user namespace behind `fd`.
void enter_user_namespace(const Child& child, int fd);
// When already in a user namespace: becomes its root, which is a different user than the one who entered.
void become_namespace_root(const Child& child);

// The PID namespace of another container, whose init may have been a different process when the bundle was written.
class PidTarget {
 public:
  PidTarget() = default;
  // `pid` is an unreaped child of the monitor. As long as this object exists, `bundle`/pid-namespace, which config.json
  // names, is a link to its namespace.
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
  std::string link_;  // empty: none was created
};

// The existing PID namespace that a container's init joins, if any.
class SharedPidNamespace {
 public:
  // Removes it from `joined`, the namespaces that are joined first. It must be the pod's, or that of `target`.
  static Result<SharedPidNamespace> plan(const Sandbox& sandbox, const PidTarget& target, const ContainerSpec& spec,
                                         std::vector<JoinedNamespace>& joined);

  explicit operator bool() const { return static_cast<bool>(space_); }
  std::vector<int> descriptors() const { return {space_.get(), mounts_.get()}; }

  // In the child: its own children are created in the namespace from now on. Gives every planned mount of type "proc" a
  // copy of the namespace's procfs.
  void join(const Child& child, std::vector<PlannedMount>& mounts) const;

 private:
  Fd find_procfs(const Child& child, const MountSpec& spec) const;

  Fd space_;   // no Fd: there is none
  Fd mounts_;  // the mount namespace with its procfs: Sandbox::procfs_space, or the target's
  bool is_targets_ = false;
  std::string owner_;  // for messages
};

class Loop;
class Reaper;

// PID 1 of a pod with a shared PID namespace: built into the monitor, replacing a pause image.
struct PodInit {
  pid_t pid = 0;
  // A mount namespace whose only mount, its root, is a procfs of the PID namespace. Processes outside cannot create
  // such a procfs; only the monitor has access to this one, on which nothing is masked.
  Fd procfs_space;
};

// Spawns it in a new PID namespace and otherwise the caller's namespaces, with an empty read-only root, no capabilities
// and, if the policy allows it, the SELinux label; in the user namespace of the descriptor, unless that is -1. It only
// reaps orphans; it is killed by SIGKILL from the monitor, and when the monitor dies. Runs the loop meanwhile.
Result<PodInit> start_pod_init(Loop& loop, Reaper& reaper, int user_namespace, const std::string& label);

}  // namespace keelson
