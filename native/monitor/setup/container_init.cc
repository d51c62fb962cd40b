#include "monitor/setup/container_init.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "common/empty_mounts.h"
#include "monitor/setup/container_process.h"
#include "monitor/setup/devices.h"
#include "monitor/setup/rootfs.h"
#include "monitor/setup/filesystem.h"
#include "monitor/setup/mounts.h"
#include "monitor/setup/namespaces.h"

namespace keelson {

namespace {

// As long as one call of an OCI runtime: with hundreds of concurrent starts on a busy node one takes more than 10 s.
constexpr auto start_limit = std::chrono::seconds(30);

// The user namespace to enter, if any, and what is prepared outside of it.
struct UserSpace {
  Fd space;
  uid_t stdio_owner = 0;  // in the host's ids
  std::vector<OutsideDevice> devices;
  Fd root;

  explicit operator bool() const { return static_cast<bool>(space); }
};

// All but the cgroup namespace: its root is the process's cgroup at creation, so it is created after joining the
// container's cgroups.
uint64_t namespaces_before_cgroups(const ContainerSpec& spec) {
  return new_namespaces(spec.namespaces) & ~uint64_t{CLONE_NEWCGROUP};
}

// Everything that a start needs, prepared before the clone.
struct InitPlan {
  const ContainerSpec& spec;
  ContainerProcess process;
  std::unique_ptr<RootfsPlan> rootfs;  // the mounts point into it
  std::vector<PlannedMount> mounts;
  std::vector<JoinedNamespace> joined;
  SharedPidNamespace pids;
  UserSpace user;
  std::vector<std::string> cgroup_files;
  int empty_mounts = -1;
};

class ContainerInit final : public Procedure {
 public:
  ContainerInit(InitPlan plan, const Stdio& stdio) : plan_(std::move(plan)), spec_(plan_.spec), stdio_(stdio) {
    if (plan_.pids) kept_ = plan_.pids.descriptors();
    if (plan_.user) kept_.push_back(plan_.user.space.get());
    if (plan_.empty_mounts >= 0) kept_.push_back(plan_.empty_mounts);
    for (const PlannedMount& mount : plan_.mounts) {
      if (mount.owners) kept_.push_back(mount.owners.get());
    }
    std::ranges::sort(kept_);
  }

  void enter(const Child& child) override {
    leave_monitor(child);
    // All modes below are exact; the process's own umask is set at the end.
    umask(0);
    join_namespaces(child, plan_.joined);
    place_stdio(child, stdio_, plan_.user.stdio_owner);
    // Before joining the cgroups: in a frozen one, inherited ends of other processes' streams would stay open.
    close_descriptors(child, kept_);
    // Before any memory is used or mount created, so that all of it is charged to the container.
    join_v1_cgroups(child, plan_.cgroup_files);
    // While /proc is still the host's, so that nothing in the container can replace it.
    plan_.process.set_score_and_labels(child);
    if (plan_.pids) plan_.pids.join(child, plan_.mounts);
    if (plan_.user) prepare_as_host(child);
  }

  void set_up(const Child& child) override {
    // In a shared PID namespace this is the helper, and the process itself starts the session as its first step.
    if (plan_.pids) make_namespaces(child);
    else child.check(setsid(), Step::start_session);
    plan_.process.join_keyring(child);
    make_cgroup_namespace(child);

    Fd new_root = plan_.user ? prepared_root(child) : host_root(child);
    const int root = new_root.get();
    make_directories(child, root, plan_.rootfs->directories);
    if (spec_.readonly_root) keep_writable(child, root, plan_.rootfs->directories);
    // All mounts before pivot_root, by descriptor, so that links in the image have no effect.
    make_mounts(child, root, plan_.mounts);
    if (foreign_dev(spec_) == nullptr) {
      if (plan_.user) bind_devices(child, root, plan_.user.devices);
      else make_devices(child, root, spec_);
    }
    Fd terminal = make_terminal(child, root);
    make_working_directory(child, root);
    // After all mounts, or a later one would uncover what these hide.
    make_paths_readonly(child, root, spec_.readonly_paths);
    mask_paths(child, root, spec_.masked_paths, spec_.mount_label);
    if (spec_.readonly_root) child.check(change_mount(root, {MOUNT_ATTR_RDONLY, 0, 0}, false), Step::make_root_readonly);
    pivot_to(child, root);
    new_root.reset();
    set_root_propagation(child);

    if (!terminal) {
      open_missing_streams(child, stdio_);
    } else {
      place_terminal(child, std::move(terminal));
      if (!plan_.pids) make_controlling(child);
    }
    plan_.process.become(child);
  }

  const LastSteps* last_steps() const override { return &plan_.process.last_steps(); }

 private:
  void make_namespaces(const Child& child) const {
    child.check(unshare(static_cast<int>(namespaces_before_cgroups(spec_))), Step::make_namespaces);
  }

  // Builds the root detached, then attaches it in a copy of the empty mount namespace. No Fd if something would have to
  // be attached before that or needs /proc: image volumes, labels, and layers before Linux 6.7.
  Fd root_in_empty_mounts(const Child& child) {
    if (plan_.empty_mounts < 0 || plan_.pids || !plan_.rootfs->images.empty() || !spec_.mount_label.empty()) return Fd();
    open_sources(child, plan_.mounts);
    Fd root = detached_rootfs(child, plan_.rootfs->root);
    if (!root) return Fd();
    child.check(setns(plan_.empty_mounts, CLONE_NEWNS), Step::make_namespaces);
    child.check(unshare(CLONE_NEWNS), Step::make_namespaces);
    attach_at(child, root.get(), empty_mounts_root);
    return root;
  }

  Fd host_root(const Child& child) {
    if (Fd root = root_in_empty_mounts(child)) return root;
    if (!plan_.pids) child.check(unshare(CLONE_NEWNS), Step::make_namespaces);
    // Sources first: once detached from the host, no mount could be shared with it.
    open_sources(child, plan_.mounts);
    detach_from_host(child);
    make_image_views(child, plan_.rootfs->images, -1, -1);
    take_image_views(child, plan_.mounts);
    return mount_rootfs(child, plan_.rootfs->root);
  }

  // Does what only the host's root may do, then enters the user namespace, which owns the process cloned next and its
  // PID and mount namespaces. That process inherits the prepared mounts; nobody in the container can inspect it,
  // because it is not dumpable (ptrace(2)).
  void prepare_as_host(const Child& child) {
    child.check(unshare(CLONE_NEWNS), Step::detach_propagation);
    open_sources(child, plan_.mounts);
    detach_from_host(child);
    const Fd scratch = mount_scratch(child, plan_.rootfs->root);
    make_image_views(child, plan_.rootfs->images, scratch.get(), plan_.user.space.get());
    take_image_views(child, plan_.mounts);
    plan_.user.root = make_mapped_overlay(child, plan_.rootfs->root, scratch.get(), plan_.user.space.get());
    make_outside_devices(child, scratch.get(), plan_.user.devices);
    enter_user_namespace(child, plan_.user.space.get());
  }

  Fd prepared_root(const Child& child) {
    attach_mapped_rootfs(child, plan_.user.root.get());
    return std::move(plan_.user.root);
  }

  // After joining the cgroups: they become the root of the namespace.
  void make_cgroup_namespace(const Child& child) const {
    const bool wanted = (new_namespaces(spec_.namespaces) & CLONE_NEWCGROUP) != 0;
    if (wanted) child.check(unshare(CLONE_NEWCGROUP), Step::enter_cgroup_namespace);
  }

  // No Fd without a terminal.
  Fd make_terminal(const Child& child, int root) const {
    if (!spec_.command.terminal) return Fd();
    Fd slave = open_terminal(child, root, spec_.command, spec_.process.uid);
    const MountSpec* dev = foreign_dev(spec_);
    // In a /dev that propagates to the host it would cover the host's console permanently.
    if (dev == nullptr || !(dev->propagation & MS_SHARED)) place_console(child, root, slave.get());
    return slave;
  }

  void make_working_directory(const Child& child, int root) const {
    const char* path = spec_.process.cwd.c_str();
    child.check(make_directory_in_root(root, path), Step::make_working_directory, path);
  }

  // On the root only: volumes have the propagation of their own mounts.
  void set_root_propagation(const Child& child) const {
    uint64_t kind = spec_.root_propagation & ~uint64_t{MS_REC};
    if (kind != 0) child.check(mount(nullptr, "/", nullptr, kind, nullptr), Step::set_propagation);
  }

  InitPlan plan_;
  const ContainerSpec& spec_;
  const Stdio& stdio_;
  std::vector<int> kept_;  // descriptors that are needed after the rest is closed
};

Status check(const ContainerSpec& spec, const SeccompFilter& filter) {
  if (spec.has_seccomp && filter.program().empty()) {
    return fail(Kind::invalid, "load the seccomp filter", "config.json needs one, and the request has no seccomp_bpf");
  }
  const uint64_t fresh = new_namespaces(spec.namespaces);
  if ((fresh & CLONE_NEWNS) == 0) {
    return fail(Kind::invalid, "create the namespaces", "a container needs its own mount namespace");
  }
  if (fresh & CLONE_NEWUSER) {
    return fail(Kind::invalid, "create the namespaces", "the user namespace needs a path: it must be the pod's");
  }
  return {};
}

// Removes the user namespace from `joined`, the namespaces that are joined first.
UserSpace plan_user_space(const Sandbox& sandbox, const ContainerSpec& spec, std::vector<JoinedNamespace>& joined) {
  const SandboxSpec& pod = sandbox.spec;
  UserSpace user;
  user.stdio_owner = spec.process.uid;
  auto found = std::ranges::find(joined, CLONE_NEWUSER, &JoinedNamespace::flag);
  if (found == joined.end()) return user;
  user.space = std::move(found->fd);
  joined.erase(found);
  user.stdio_owner = host_id(pod.uid_mappings, spec.process.uid);
  if (foreign_dev(spec) == nullptr) user.devices = plan_outside_devices(spec, pod.uid_mappings, pod.gid_mappings);
  return user;
}

Result<InitPlan> plan_init(const InitOrder& order) {
  const ContainerSpec& spec = order.spec;
  TRY(check(spec, order.filter));
  std::vector<JoinedNamespace> joined = TRY(open_namespaces(spec.namespaces));
  SharedPidNamespace pids = TRY(SharedPidNamespace::plan(order.sandbox, order.pid_target, spec, joined));
  UserSpace user = plan_user_space(order.sandbox, spec, joined);
  ContainerProcess process = TRY(ContainerProcess::plan(
      spec.process, spec.command, order.filter, {order.id, static_cast<bool>(user), static_cast<bool>(pids)}));
  auto rootfs = std::make_unique<RootfsPlan>(plan_rootfs(order.rootfs, order.bundle, spec.mount_label));
  std::vector<PlannedMount> mounts =
      TRY(plan_mounts(spec, rootfs->images, order.sandbox, order.cgroup.host(), order.cgroup.path()));
  return InitPlan{spec,
                  std::move(process),
                  std::move(rootfs),
                  std::move(mounts),
                  std::move(joined),
                  std::move(pids),
                  std::move(user),
                  order.cgroup.v1_task_files(),
                  order.empty_mounts};
}

SpawnOptions spawn_options(const InitOrder& order, const InitPlan& plan) {
  SpawnOptions options;
  options.way = plan.pids   ? SpawnWay::helper_then_shared_namespace
                : plan.user ? SpawnWay::helper_then_new_namespaces
                            : SpawnWay::direct;
  if (!plan.pids) options.new_namespaces = namespaces_before_cgroups(order.spec);
  // A direct child creates its mount namespace itself.
  if (options.way == SpawnWay::direct) options.new_namespaces &= ~uint64_t{CLONE_NEWNS};
  options.cgroup_fd = order.cgroup.clone_fd();
  options.command = order.spec.command.args[0];
  options.limit = start_limit;
  return options;
}

}  // namespace

std::shared_ptr<Attempt> spawn_container_init(Loop& loop, Reaper& reaper, const InitOrder& order, Stdio stdio,
                                              Done<Started> done) {
  Result<InitPlan> plan = plan_init(order);
  if (!plan) return cannot_begin(done, std::move(plan.error()));
  SpawnOptions options = spawn_options(order, *plan);
  ContainerInit init(std::move(*plan), stdio);
  return spawn(loop, reaper, init, std::move(options),
               [rootfs = order.rootfs, done = std::move(done)](Result<Started> started) mutable {
                 if (!started) forget_failed_mount(rootfs);
                 done(std::move(started));
               });
}

}  // namespace keelson
