// Sources: pid_namespaces(7), proc(5), setns(2), which moves the caller's children but not the caller.
#include "monitor/setup/pid_namespace.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "monitor/setup/mount_api.h"
#include "monitor/setup/resolve.h"

namespace keelson {

namespace {

bool is_same_file(const struct stat& one, const struct stat& other) {
  return one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

bool is_same_namespace(int a, int b) {
  struct stat one, other;
  return fstat(a, &one) == 0 && fstat(b, &other) == 0 && is_same_file(one, other);
}

// Of the mount alone: what could lie upon it has not come along.
bool is_procfs_of(int mount, int pid_space) {
  struct stat space, wanted;
  return is_proc_root(mount) && fstatat(mount, "1/ns/pid", &space, 0) == 0 && fstat(pid_space, &wanted) == 0 &&
         is_same_file(space, wanted);
}

}  // namespace

Result<PidTarget> PidTarget::resolve(std::string id, pid_t pid, const std::string& bundle) {
  const std::string step = "find the PID namespace of container " + id;
  PidTarget target;
  target.id_ = std::move(id);
  target.pidfd_ = Fd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!target.pidfd_) return fail_errno(step);
  target.space_ = Fd(open(("/proc/" + std::to_string(pid) + "/ns/pid").c_str(), O_RDONLY | O_CLOEXEC));
  if (!target.space_) return fail_errno(step);
  const std::string link = bundle + "/pid-namespace";
  // By our descriptor: it stays that namespace whatever becomes of the process.
  const std::string space = "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(target.space_.get());
  if (unlink(link.c_str()) != 0 && errno != ENOENT) return fail_errno("remove " + link);
  if (symlink(space.c_str(), link.c_str()) != 0) return fail_errno("make " + link);
  target.link_ = link;
  return target;
}

PidTarget& PidTarget::operator=(PidTarget&& other) noexcept {
  if (this == &other) return *this;
  drop();
  id_ = std::move(other.id_);
  pidfd_ = std::move(other.pidfd_);
  space_ = std::move(other.space_);
  link_ = std::exchange(other.link_, {});
  return *this;
}

void PidTarget::drop() {
  if (!link_.empty()) unlink(link_.c_str());
  link_.clear();
}

Result<SharedPidNamespace> SharedPidNamespace::plan(const Sandbox& sandbox, const PidTarget& target,
                                                    const ContainerSpec& spec, std::vector<JoinedNamespace>& joined) {
  SharedPidNamespace shared;
  auto found = std::ranges::find(joined, CLONE_NEWPID, &JoinedNamespace::flag);
  if (found == joined.end()) return shared;
  shared.space_ = std::move(found->fd);
  joined.erase(found);
  for (const MountSpec& mount : spec.mounts) {
    if (mount.type == "proc" && !mount.data.empty()) {
      return fail(Kind::invalid, "mount " + mount.destination,
                  "the procfs of a shared PID namespace cannot have the option \"" + mount.data[0] + "\"");
    }
  }
  if (target) {
    shared.owner_ = "container " + target.id();
    shared.is_targets_ = true;
    shared.mounts_ = Fd(fcntl(target.pidfd(), F_DUPFD_CLOEXEC, 3));
  } else if (sandbox.pid_ns && is_same_namespace(sandbox.pid_ns.get(), shared.space_.get())) {
    shared.owner_ = "the pod";
    shared.mounts_ = Fd(fcntl(sandbox.procfs_space.get(), F_DUPFD_CLOEXEC, 3));
  } else {
    return fail(Kind::invalid, "join the namespace", "a PID namespace must be the pod's or that of one of its containers");
  }
  if (!shared.mounts_) return fail_errno("find the procfs of " + shared.owner_);
  return shared;
}

void SharedPidNamespace::join(const Child& child, std::vector<PlannedMount>& mounts) const {
  if (setns(space_.get(), CLONE_NEWPID) != 0) child.die(Step::join_namespace, "pid");
  for (PlannedMount& mount : mounts) {
    if (mount.spec.type == "proc") mount.tree = find_procfs(child, mount.spec);
  }
}

int SharedPidNamespace::find_procfs(const Child& child, const MountSpec& spec) const {
  const char* owner = owner_.c_str();
  int home = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
  if (home < 0) child.die(Step::find_procfs, owner);
  if (setns(mounts_.get(), CLONE_NEWNS) != 0) child.die(Step::find_procfs, owner);
  // In a container nothing on the way may be a link, and what it has mounted upon its procfs does not come along.
  int found = is_targets_ ? open_in_root(AT_FDCWD, "proc", O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS)
                          : open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
  int tree = found < 0 ? -1 : clone_tree(found, "", false);
  if (tree < 0) child.die(Step::find_procfs, owner);
  close(found);
  if (setns(home, CLONE_NEWNS) != 0) child.die(Step::join_namespace, "mnt");
  close(home);
  if (!is_procfs_of(tree, space_.get())) child.die(Step::find_procfs, owner, EXDEV);
  constexpr uint64_t access = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
  if (change_mount(tree, {mount_attributes(spec.flags), access, MS_PRIVATE}, false) != 0) {
    child.die(Step::set_mount_options, spec.destination.c_str());
  }
  return tree;
}

}  // namespace keelson
