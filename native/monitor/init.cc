// A container's init: the steps from a fresh process to its command, in order.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "command.h"
#include "descriptors.h"
#include "devices.h"
#include "idmap.h"
#include "launch.h"
#include "limits.h"
#include "masking.h"
#include "mount_api.h"
#include "mounts.h"
#include "namespaces.h"
#include "process.h"
#include "resolve.h"
#include "rootfs.h"
#include "signals.h"
#include "sysctl.h"
#include "terminal.h"

namespace keelson {

namespace {

// The user namespace to be in, if any, and what is prepared outside of it.
struct UserSpace {
  Fd space;
  uid_t stdio_owner = 0;  // in the host's ids
  std::vector<OutsideDevice> devices;
  int root = -1;

  explicit operator bool() const { return static_cast<bool>(space); }
};

class ContainerInit final : public ChildProgram {
 public:
  ContainerInit(const ContainerSpec& spec, Command command, std::unique_ptr<RootfsPlan> rootfs,
                std::vector<PlannedMount> mounts,
                std::vector<JoinedNamespace> joined, UserSpace user, std::vector<Sysctl> sysctls,
                std::vector<std::string> cgroup_files, const Stdio& stdio)
      : spec_(spec),
        command_(std::move(command)),
        rootfs_(std::move(rootfs)),
        mounts_(std::move(mounts)),
        joined_(std::move(joined)),
        user_(std::move(user)),
        sysctls_(std::move(sysctls)),
        cgroup_files_(std::move(cgroup_files)),
        stdio_(stdio) {
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
    if (user_) prepare_as_host(child);
  }

  [[noreturn]] void run(const Child& child) override {
    if (setsid() < 0) child.die(Step::start_session);
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

    if (terminal >= 0) take_terminal(child, terminal);
    else open_missing_streams(child, stdio_);
    close_on_exec(child);
    set_rlimits(child, command_.process().rlimits);
    umask(command_.process().umask.value_or(022));
    bool entered = command_.enter_directory(child, false);
    command_.become_user(child);
    if (!entered) command_.enter_directory(child, true);
    command_.execute(child);
  }

 private:
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

}  // namespace

Result<Started> start_init(const Sandbox& sandbox, const InitRequest& request, const ContainerSpec& spec,
                           const RootfsSpec& rootfs, const Cgroup& cgroup, Stdio stdio) {
  const std::string container = "container " + request.id;
  if (Status checked = check(spec, request); !checked) return about(checked.error(), container);
  Result<std::vector<JoinedNamespace>> joined = open_namespaces(spec.namespaces);
  if (!joined) return about(joined.error(), container);
  UserSpace user = plan_user_space(sandbox, spec, *joined);
  const bool mapped = static_cast<bool>(user);
  Result<Command> command = Command::plan(spec.process, request.id, request.seccomp_filter_path, mapped);
  if (!command) return about(command.error(), container);
  auto plan = std::make_unique<RootfsPlan>(plan_rootfs(rootfs, request.bundle));
  Result<std::vector<PlannedMount>> mounts =
      plan_mounts(spec, plan->images, sandbox, cgroup.host(), cgroup.path());
  if (!mounts) return about(mounts.error(), container);
  Result<std::vector<Sysctl>> sysctls = plan_sysctls(spec);
  if (!sysctls) return about(sysctls.error(), container);

  LaunchOptions options;
  options.new_namespaces = new_namespaces(spec.namespaces) & ~uint64_t{CLONE_NEWCGROUP};
  options.cgroup_fd = cgroup.clone_fd();
  options.by_helper = mapped;
  for (const JoinedNamespace& space : *joined) options.by_helper |= space.flag == CLONE_NEWPID;

  ContainerInit init(spec, std::move(*command), std::move(plan), std::move(*mounts),
                     std::move(*joined), std::move(user), std::move(*sysctls), cgroup.v1_task_files(), stdio);
  Result<Started> started = launch(init, options);
  if (!started) {
    forget_failed_mount(rootfs);
    return about(started.error(), container);
  }
  return started;
}

}  // namespace keelson
