// A container's init: the steps from a fresh process to its command, in order.
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "monitor/setup/command.h"
#include "monitor/setup/descriptors.h"
#include "monitor/setup/devices.h"
#include "monitor/setup/user_namespace.h"
#include "monitor/setup/spawn.h"
#include "monitor/setup/limits.h"
#include "monitor/setup/masking.h"
#include "monitor/setup/mount_api.h"
#include "monitor/setup/mounts.h"
#include "monitor/setup/namespaces.h"
#include "monitor/setup/process.h"
#include "monitor/setup/resolve.h"
#include "monitor/setup/rootfs.h"
#include "monitor/setup/signals.h"
#include "monitor/setup/sysctl.h"
#include "monitor/setup/terminal.h"

namespace keelson {

namespace {

constexpr ino_t proc_root_inode = 1;  // PROC_ROOT_INO

// A PID namespace that is joined, and where its procfs comes from: the kernel makes one only for the PID namespace
// that its maker lives in, which a helper does not (setns(2) moves its children).
struct SharedPids {
  Fd space;       // set: the namespace is joined
  Fd mount_space; // to be entered to find its procfs in: the pod's own that has nothing else, or a container's
  bool is_containers = false;
  std::string of; // for messages

  explicit operator bool() const { return static_cast<bool>(space); }
};

// The user namespace to be in, if any, and what is prepared outside of it.
struct UserSpace {
  Fd space;
  uid_t stdio_owner = 0;  // in the host's ids
  std::vector<OutsideDevice> devices;
  int root = -1;

  explicit operator bool() const { return static_cast<bool>(space); }
};

// Of the mount alone: what could lie upon it has not come along.
bool is_procfs_of(int mount, int pid_space) {
  struct statfs file_system;
  struct stat root, space, wanted;
  return fstatfs(mount, &file_system) == 0 && file_system.f_type == PROC_SUPER_MAGIC && fstat(mount, &root) == 0 &&
         root.st_ino == proc_root_inode && fstatat(mount, "1/ns/pid", &space, 0) == 0 &&
         fstat(pid_space, &wanted) == 0 && space.st_dev == wanted.st_dev && space.st_ino == wanted.st_ino;
}

class ContainerInit final : public ChildProgram {
 public:
  ContainerInit(const ContainerSpec& spec, Command command, std::unique_ptr<RootfsPlan> rootfs,
                std::vector<PlannedMount> mounts,
                std::vector<JoinedNamespace> joined, SharedPids pids, UserSpace user, std::vector<Sysctl> sysctls,
                std::vector<std::string> cgroup_files, const Stdio& stdio)
      : spec_(spec),
        command_(std::move(command)),
        rootfs_(std::move(rootfs)),
        mounts_(std::move(mounts)),
        joined_(std::move(joined)),
        pids_(std::move(pids)),
        user_(std::move(user)),
        sysctls_(std::move(sysctls)),
        cgroup_files_(std::move(cgroup_files)),
        stdio_(stdio) {
    if (pids_) kept_.insert(kept_.end(), {pids_.space.get(), pids_.mount_space.get()});
    if (user_) kept_.push_back(user_.space.get());
    for (const PlannedMount& mount : mounts_) {
      if (mount.owners) kept_.push_back(mount.owners.get());
    }
    std::ranges::sort(kept_);
  }

  void enter(const Child& child) override {
    // The monitor's memory is nobody else's to read (ptrace, /proc/<pid>/mem); execve resets this.
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) child.die(Step::reset_signals);
    reset_signals(child);
    // Every mode below is exact; the process's own umask comes at the end.
    umask(0);
    // Before any memory is used or mount made, so that all of it is counted.
    join_v1_cgroups(child, cgroup_files_);
    // While /proc is still the host's: nothing in the container can stand in for it.
    command_.set_score_and_label(child);
    join_namespaces(child, joined_);
    place_stdio(child, stdio_, user_.stdio_owner);
    close_descriptors(child, kept_);
    if (pids_) join_pids(child);
    if (user_) prepare_as_host(child);
  }

  void set_up(const Child& child) override {
    // With others about, the session is the process's own first step, and this is its helper.
    if (pids_) make_namespaces(child);
    else if (setsid() < 0) child.die(Step::start_session);
    command_.join_keyring(child);
    make_cgroup_namespace(child);
    set_hostname(child);
    write_sysctls(child);

    int root = user_ ? prepared_root(child) : host_root(child);
    make_directories(child, root, rootfs_->directories);
    if (spec_.readonly_root) keep_writable(child, root, rootfs_->directories);
    // All before pivot_root, by descriptors: the image's links have no say.
    make_mounts(child, root, mounts_);
    if (!has_foreign_dev(spec_)) {
      if (user_) bind_devices(child, root, user_.devices);
      else make_devices(child, root, spec_.devices);
    }
    int terminal = make_terminal(child, root);
    make_working_directory(child, root);
    // After every mount, or a later one would uncover what these hide.
    make_paths_readonly(child, root, spec_.readonly_paths);
    mask_paths(child, root, spec_.masked_paths);
    if (spec_.readonly_root && change_mount(root, {MOUNT_ATTR_RDONLY, 0, 0}, false) != 0) {
      child.die(Step::make_root_readonly);
    }
    pivot_to(child, root);
    close(root);
    set_root_propagation(child);

    if (terminal < 0) {
      open_missing_streams(child, stdio_);
    } else {
      place_terminal(child, terminal);
      if (!pids_) make_controlling(child);
    }
    command_.become(child);
  }

  const LastSteps* last_steps() const override { return &command_.last_steps(); }

 private:
  // From now on children are born there; and its procfs is at hand for every mount of that type.
  void join_pids(const Child& child) {
    if (setns(pids_.space.get(), CLONE_NEWPID) != 0) child.die(Step::join_namespace, "pid");
    for (PlannedMount& mount : mounts_) {
      if (mount.spec.type == "proc") mount.tree = borrow_procfs(child, mount.spec);
    }
  }

  int borrow_procfs(const Child& child, const MountSpec& spec) const {
    const char* owner = pids_.of.c_str();
    int home = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (home < 0) child.die(Step::borrow_procfs, owner);
    if (setns(pids_.mount_space.get(), CLONE_NEWNS) != 0) child.die(Step::borrow_procfs, owner);
    // In a container nothing on the way may be a link, and what it has mounted upon its procfs does not come along.
    int found = pids_.is_containers ? open_in_root(AT_FDCWD, "proc", O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS)
                                    : open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int tree = found < 0 ? -1 : clone_tree(found, "", false);
    if (tree < 0) child.die(Step::borrow_procfs, owner);
    close(found);
    if (setns(home, CLONE_NEWNS) != 0) child.die(Step::join_namespace, "mnt");
    close(home);
    if (!is_procfs_of(tree, pids_.space.get())) child.die(Step::borrow_procfs, owner, EXDEV);
    constexpr uint64_t access = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    if (change_mount(tree, {mount_attributes(spec.flags), access, MS_PRIVATE}, false) != 0) {
      child.die(Step::set_mount_options, spec.destination.c_str());
    }
    return tree;
  }

  void make_namespaces(const Child& child) const {
    const uint64_t fresh = new_namespaces(spec_.namespaces) & ~uint64_t{CLONE_NEWCGROUP};
    if (unshare(static_cast<int>(fresh)) != 0) child.die(Step::make_namespaces);
  }

  int host_root(const Child& child) {
    // Sources first: once cut off from the host, no mount could be shared with it.
    open_sources(child, mounts_);
    detach_from_host(child);
    make_image_views(child, rootfs_->images, -1, -1);
    take_image_views(child, mounts_);
    return mount_rootfs(child, rootfs_->root);
  }

  // What the host's root alone may do, and then the end of being that: the process that is born next, with its
  // PID and mount namespaces, belongs to the user namespace. It inherits the prepared mounts; nobody in the
  // container can look at them, for its memory is still the monitor's (ptrace(2), not dumpable).
  void prepare_as_host(const Child& child) {
    if (unshare(CLONE_NEWNS) != 0) child.die(Step::detach_propagation);
    open_sources(child, mounts_);
    detach_from_host(child);
    int scratch = mount_scratch(child, rootfs_->root);
    make_image_views(child, rootfs_->images, scratch, user_.space.get());
    take_image_views(child, mounts_);
    user_.root = make_mapped_overlay(child, rootfs_->root, scratch, user_.space.get());
    make_outside_devices(child, scratch, user_.devices);
    enter_user_namespace(child, user_.space.get());
  }

  int prepared_root(const Child& child) const {
    attach_mapped_rootfs(child, user_.root);
    return user_.root;
  }

  // After joining the cgroups: the namespace's root is where the process is now.
  void make_cgroup_namespace(const Child& child) const {
    for (const NamespaceSpec& space : spec_.namespaces) {
      if (space.flag == CLONE_NEWCGROUP && space.path.empty() && unshare(CLONE_NEWCGROUP) != 0) {
        child.die(Step::enter_cgroup_namespace);
      }
    }
  }

  // Only in a UTS namespace of its own; in the pod's the name is set already.
  void set_hostname(const Child& child) const {
    if (spec_.hostname.empty() || (new_namespaces(spec_.namespaces) & CLONE_NEWUTS) == 0) return;
    if (sethostname(spec_.hostname.data(), spec_.hostname.size()) != 0) {
      child.die(Step::set_hostname, spec_.hostname.c_str());
    }
  }

  void write_sysctls(const Child& child) const {
    for (const Sysctl& sysctl : sysctls_) {
      if (int error = write_sysctl(sysctl)) child.die(Step::set_sysctl, sysctl.file.c_str(), error);
    }
  }

  int make_terminal(const Child& child, int root) const {
    if (!command_.process().terminal) return -1;
    int slave = open_terminal(child, root, command_.process());
    place_console(child, root, slave);
    return slave;
  }

  void make_working_directory(const Child& child, int root) const {
    int directory = make_directory_in_root(root, command_.process().cwd.c_str());
    if (directory < 0) child.die(Step::make_working_directory, command_.process().cwd.c_str());
    close(directory);
  }

  // On the root alone: the volumes below have what their own mounts ask for.
  void set_root_propagation(const Child& child) const {
    uint64_t kind = spec_.root_propagation & ~uint64_t{MS_REC};
    if (kind != 0 && mount(nullptr, "/", nullptr, kind, nullptr) != 0) child.die(Step::set_propagation);
  }

  const ContainerSpec& spec_;
  Command command_;
  std::unique_ptr<RootfsPlan> rootfs_;  // the mounts point into it
  std::vector<PlannedMount> mounts_;
  std::vector<JoinedNamespace> joined_;
  SharedPids pids_;
  UserSpace user_;
  std::vector<int> kept_;  // descriptors that are needed after the rest is closed
  std::vector<Sysctl> sysctls_;
  std::vector<std::string> cgroup_files_;
  const Stdio& stdio_;
};

Status check(const ContainerSpec& spec, const InitRequest& request) {
  if (spec.has_seccomp && request.seccomp_filter_path.empty()) {
    return fail(Kind::invalid, "load the seccomp filter", "the spec asks for one and the request names none");
  }
  uint64_t fresh = new_namespaces(spec.namespaces);
  if ((fresh & CLONE_NEWNS) == 0) {
    return fail(Kind::invalid, "make the namespaces", "a container needs a mount namespace of its own");
  }
  if (fresh & CLONE_NEWUSER) {
    return fail(Kind::invalid, "make the namespaces", "a container's user namespace is its pod's, given by its path");
  }
  return {};
}

// A sysctl may be set where the container, or its pod, has a namespace of its own.
Result<std::vector<Sysctl>> plan_sysctls(const ContainerSpec& spec) {
  int own = 0;
  for (const NamespaceSpec& space : spec.namespaces) own |= space.flag;
  return check_sysctls(spec.sysctls, own);
}

// Takes the user namespace out of those that are joined first.
UserSpace plan_user_space(const Sandbox& sandbox, const ContainerSpec& spec, std::vector<JoinedNamespace>& joined) {
  const SandboxSpec& pod = sandbox.spec;
  UserSpace user;
  user.stdio_owner = spec.process.uid;
  auto found = std::ranges::find(joined, CLONE_NEWUSER, &JoinedNamespace::flag);
  if (found == joined.end()) return user;
  user.space = std::move(found->fd);
  joined.erase(found);
  user.stdio_owner = host_id(pod.uid_mappings, spec.process.uid);
  if (!has_foreign_dev(spec)) user.devices = plan_outside_devices(spec.devices, pod.uid_mappings, pod.gid_mappings);
  return user;
}

bool is_same_namespace(int a, int b) {
  struct stat one, other;
  return fstat(a, &one) == 0 && fstat(b, &other) == 0 && one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

// Takes the PID namespace out of those that are joined first.
Result<SharedPids> plan_pids(const Sandbox& sandbox, const InitRequest& request, const ContainerSpec& spec,
                             std::vector<JoinedNamespace>& joined) {
  SharedPids pids;
  auto found = std::ranges::find(joined, CLONE_NEWPID, &JoinedNamespace::flag);
  if (found == joined.end()) return pids;
  pids.space = std::move(found->fd);
  joined.erase(found);
  for (const MountSpec& mount : spec.mounts) {
    if (mount.type == "proc" && !mount.data.empty()) {
      return fail(Kind::invalid, "mount " + mount.destination,
                  "the procfs of a shared PID namespace cannot have the option \"" + mount.data[0] + "\"");
    }
  }
  if (request.pid_of_pidfd >= 0) {
    pids.of = "container " + request.pid_of;
    pids.is_containers = true;
    pids.mount_space = Fd(fcntl(request.pid_of_pidfd, F_DUPFD_CLOEXEC, 3));
  } else if (sandbox.pid_ns && is_same_namespace(sandbox.pid_ns.get(), pids.space.get())) {
    pids.of = "the pod";
    pids.mount_space = Fd(fcntl(sandbox.procfs_space.get(), F_DUPFD_CLOEXEC, 3));
  } else {
    return fail(Kind::invalid, "join the namespace", "a PID namespace must be the pod's or that of one of its containers");
  }
  if (!pids.mount_space) return fail_errno("find the procfs of " + pids.of);
  return pids;
}

// All that a start needs to know, or why it cannot be.
Result<std::unique_ptr<ContainerInit>> plan_init(const Sandbox& sandbox, const InitRequest& request,
                                                 const ContainerSpec& spec, const RootfsSpec& rootfs,
                                                 const Cgroup& cgroup, const Stdio& stdio, LaunchOptions& options) {
  if (Status checked = check(spec, request); !checked) return std::unexpected(checked.error());
  Result<std::vector<JoinedNamespace>> joined = open_namespaces(spec.namespaces);
  if (!joined) return std::unexpected(joined.error());
  Result<SharedPids> pids = plan_pids(sandbox, request, spec, *joined);
  if (!pids) return std::unexpected(pids.error());
  UserSpace user = plan_user_space(sandbox, spec, *joined);
  const bool is_mapped = static_cast<bool>(user);
  const bool is_watched = static_cast<bool>(*pids);
  Result<Command> command =
      Command::plan(spec.process, {request.id, request.seccomp_filter_path, is_mapped, is_watched});
  if (!command) return std::unexpected(command.error());
  auto plan = std::make_unique<RootfsPlan>(plan_rootfs(rootfs, request.bundle));
  Result<std::vector<PlannedMount>> mounts = plan_mounts(spec, plan->images, sandbox, cgroup.host(), cgroup.path());
  if (!mounts) return std::unexpected(mounts.error());
  Result<std::vector<Sysctl>> sysctls = plan_sysctls(spec);
  if (!sysctls) return std::unexpected(sysctls.error());

  options.cgroup_fd = cgroup.clone_fd();
  options.command = spec.process.args[0];
  options.place = is_watched  ? BirthPlace::joined_namespace
                  : is_mapped ? BirthPlace::new_namespace_of_helper
                              : BirthPlace::here;
  if (!is_watched) options.new_namespaces = new_namespaces(spec.namespaces) & ~uint64_t{CLONE_NEWCGROUP};
  return std::make_unique<ContainerInit>(spec, std::move(*command), std::move(plan), std::move(*mounts),
                                         std::move(*joined), std::move(*pids), std::move(user), std::move(*sysctls),
                                         cgroup.v1_task_files(), stdio);
}

}  // namespace

std::shared_ptr<Attempt> start_init(const StartContext& context, const InitRequest& request,
                                    const ContainerSpec& spec, const RootfsSpec& rootfs, const Cgroup& cgroup,
                                    Stdio stdio, Done<Started> done) {
  const std::string container = "container " + request.id;
  LaunchOptions options;
  auto init = plan_init(context.sandbox, request, spec, rootfs, cgroup, stdio, options);
  if (!init) {
    done(about(init.error(), container));
    return nullptr;
  }
  return launch(context.loop, context.reaper, **init, std::move(options),
                [container, rootfs, done = std::move(done)](Result<Started> started) mutable {
                  if (started) return done(std::move(started));
                  forget_failed_mount(rootfs);
                  done(about(std::move(started.error()), container));
                });
}

}  // namespace keelson
