// Sources: namespaces(7), user_namespaces(7), pid_namespaces(7), credentials(7), ioctl_nsfs(2), proc(5),
// setns(2), wait(2) (SA_NOCLDWAIT), seccomp(2).
#include "monitor/setup/namespaces.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <utility>

#include "common/credentials.h"
#include "common/file.h"
#include "monitor/setup/container_process.h"
#include "monitor/setup/filesystem.h"
#include "monitor/setup/rootfs.h"
#include "monitor/setup/seccomp_filter.h"
#include "monitor/setup/spawn.h"

namespace keelson {

namespace {

constexpr uint32_t overflow_id = 65534;

Status write_map(pid_t pid, const char* file, const std::vector<IdMapping>& mappings) {
  const std::string path = "/proc/" + std::to_string(pid) + "/" + file;
  std::string lines;
  for (const IdMapping& mapping : mappings) {
    lines += std::to_string(mapping.container) + " " + std::to_string(mapping.host) + " " +
             std::to_string(mapping.size) + "\n";
  }
  const Fd map = TRY(open_file(path, O_WRONLY));
  // The kernel accepts a map only once and in a single write.
  if (write(map.get(), lines.data(), lines.size()) != static_cast<ssize_t>(lines.size())) {
    return fail_errno("write the " + std::string(file) + " of the user namespace");
  }
  return {};
}

}  // namespace

Result<std::vector<JoinedNamespace>> open_namespaces(const std::vector<NamespaceSpec>& spaces) {
  std::vector<JoinedNamespace> joined;
  for (const NamespaceSpec& space : spaces) {
    if (space.path.empty()) continue;
    Fd fd(open(space.path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) return fail_errno("open the namespace " + space.path);
    if (ioctl(fd.get(), NS_GET_NSTYPE) != space.flag) {
      return fail(Kind::invalid, "open the namespace " + space.path, "it is not a namespace of the given type");
    }
    joined.push_back({space.flag, space.path, std::move(fd)});
  }
  return joined;
}

void join_namespaces(const Child& child, const std::vector<JoinedNamespace>& spaces) {
  for (const JoinedNamespace& space : spaces) {
    child.check(setns(space.fd.get(), space.flag), Step::join_namespace, space.path.c_str());
  }
}

uint64_t new_namespaces(const std::vector<NamespaceSpec>& spaces) {
  uint64_t flags = 0;
  for (const NamespaceSpec& space : spaces) {
    if (space.path.empty()) flags |= static_cast<uint64_t>(space.flag);
  }
  return flags;
}

Result<NamespaceHolder> NamespaceHolder::create(uint64_t flags, const std::vector<IdMapping>& uids,
                                                const std::vector<IdMapping>& gids) {
  clone_args args = {};
  args.flags = flags | CLONE_NEWUSER;
  args.exit_signal = SIGCHLD;
  const long pid = syscall(SYS_clone3, &args, sizeof args);
  if (pid < 0) return fail_errno("create the user namespace");
  if (pid == 0) {
    // If the monitor dies meanwhile, nobody else would kill this process.
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) _exit(1);
    for (;;) pause();
  }
  NamespaceHolder holder;
  holder.pid_ = static_cast<pid_t>(pid);
  holder.pidfd_ = open_pidfd(holder.pid_);
  if (!holder.pidfd_) return fail_errno("open a pidfd of the namespace holder");
  TRY(write_map(holder.pid_, "uid_map", uids));
  TRY(write_map(holder.pid_, "gid_map", gids));
  return holder;
}

NamespaceHolder::NamespaceHolder(NamespaceHolder&& other) noexcept
    : pid_(std::exchange(other.pid_, 0)), pidfd_(std::move(other.pidfd_)) {}

NamespaceHolder::~NamespaceHolder() {
  if (pid_ > 0) kill(pid_, SIGKILL);  // reaped by the reaper, like any child
}

std::string NamespaceHolder::path(const char* name) const {
  return "/proc/" + std::to_string(pid_) + "/ns/" + name;
}

uint32_t host_id(const std::vector<IdMapping>& mappings, uint32_t id) {
  for (const IdMapping& mapping : mappings) {
    if (id >= mapping.container && id - mapping.container < mapping.size) return mapping.host + (id - mapping.container);
  }
  return mappings.empty() ? id : overflow_id;
}

void enter_user_namespace(const Child& child, int fd) {
  child.check(setns(fd, CLONE_NEWUSER), Step::join_namespace, "user");
  become_namespace_root(child);
}

void become_namespace_root(const Child& child) {
  child.check(set_groups(0, nullptr), Step::set_groups);
  child.check(set_gids(0), Step::set_groups);
  child.check(set_uids(0), Step::set_user);
}

namespace {

// Checks the mount itself: it was cloned without what may be mounted over it.
bool is_procfs_of(int mount, int pid_space) {
  struct stat space, wanted;
  return is_proc_root(mount) && fstatat(mount, "1/ns/pid", &space, 0) == 0 && fstat(pid_space, &wanted) == 0 &&
         space.st_dev == wanted.st_dev && space.st_ino == wanted.st_ino;
}

}  // namespace

Result<PidTarget> PidTarget::resolve(std::string id, pid_t pid, const std::string& bundle) {
  const std::string step = "find the PID namespace of container " + id;
  PidTarget target;
  target.id_ = std::move(id);
  target.pidfd_ = open_pidfd(pid);
  if (!target.pidfd_) return fail_errno(step);
  target.space_ = Fd(open(("/proc/" + std::to_string(pid) + "/ns/pid").c_str(), O_RDONLY | O_CLOEXEC));
  if (!target.space_) return fail_errno(step);
  const std::string link = bundle + "/pid-namespace";
  // Through the monitor's descriptor, which keeps referring to that namespace even after the process exits.
  const std::string space = "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(target.space_.get());
  if (unlink(link.c_str()) != 0 && errno != ENOENT) return fail_errno("remove " + link);
  if (symlink(space.c_str(), link.c_str()) != 0) return fail_errno("create " + link);
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
  } else if (sandbox.pid_ns && is_same_file(sandbox.pid_ns.get(), shared.space_.get())) {
    shared.owner_ = "the pod";
    shared.mounts_ = Fd(fcntl(sandbox.procfs_space.get(), F_DUPFD_CLOEXEC, 3));
  } else {
    return fail(Kind::invalid, "join the namespace", "a PID namespace must be that of the pod or of its containers");
  }
  if (!shared.mounts_) return fail_errno("find the procfs of " + shared.owner_);
  return shared;
}

void SharedPidNamespace::join(const Child& child, std::vector<PlannedMount>& mounts) const {
  child.check(setns(space_.get(), CLONE_NEWPID), Step::join_namespace, "pid");
  for (PlannedMount& mount : mounts) {
    if (mount.spec.type == "proc") mount.tree = find_procfs(child, mount.spec);
  }
}

Fd SharedPidNamespace::find_procfs(const Child& child, const MountSpec& spec) const {
  const char* owner = owner_.c_str();
  const Fd home = child.check(Fd(open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC)), Step::find_procfs, owner);
  child.check(setns(mounts_.get(), CLONE_NEWNS), Step::find_procfs, owner);
  // In a container the path must not contain a link; mounts on top of its procfs are not cloned.
  const Fd found = child.check(is_targets_ ? open_in_root(AT_FDCWD, "proc", O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS)
                                           : Fd(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)),
                               Step::find_procfs, owner);
  Fd tree = child.check(clone_tree(found.get(), "", false), Step::find_procfs, owner);
  child.check(setns(home.get(), CLONE_NEWNS), Step::join_namespace, "mnt");
  if (!is_procfs_of(tree.get(), space_.get())) child.die(Step::find_procfs, owner, EXDEV);
  constexpr uint64_t access = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
  child.check(change_mount(tree.get(), {mount_attributes(spec.flags), access, MS_PRIVATE}, false),
              Step::set_mount_options, spec.destination.c_str());
  return tree;
}

namespace {

// Makes a detached mount the root, and detaches everything that was there.
void live_in(const Child& child, const Fd& root) {
  const Fd target = child.check(Fd(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)), Step::mount_root);
  child.check(attach_mount(root.get(), target.get()), Step::mount_root);
  pivot_to(child, root.get());
}

// The containers of the pod see this process and share its user: nothing must be reachable through /proc/1 (root,
// descriptors, memory).
void isolate(const Child& child) {
  constexpr uint64_t attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
  live_in(child, child.check(new_mount("tmpfs", {{"size", "4k"}}, attributes), Step::mount_root));
  drop_capabilities(child);
  child.check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), Step::set_no_new_privileges);
}

// Leaves only a procfs in the mount namespace that this process was cloned into, and sends the namespace to the
// monitor.
void leave_procfs(const Child& child) {
  detach_from_host(child);
  live_in(child, child.check(new_mount("proc", {}, 0), Step::mount, "proc"));
  const Fd space = child.check(Fd(open("/self/ns/mnt", O_RDONLY | O_CLOEXEC)), Step::find_procfs, "itself");
  child.send(space.get());
}

// A container with CAP_SYS_PTRACE can run its own code in this process, which has neither the container's cgroup nor
// its filter. The process itself does nothing (the kernel reaps, on the CPU time of the orphans), so the limits can be
// as low as possible.
void limit_resources(const Child& child) {
  constexpr rlimit none = {0, 0};
  constexpr rlimit seconds = {2, 2};
  child.check(setrlimit(RLIMIT_AS, &none), Step::set_limit, "memory");  // it cannot allocate any more
  child.check(setrlimit(RLIMIT_CPU, &seconds), Step::set_limit, "processor time");
}

// Allows only these two system calls, which are harmless.
void allow_only_waiting(const Child& child) {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, own_architecture, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ppoll, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_close_range, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter = {sizeof program / sizeof *program, program};
  child.check(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter), Step::load_seccomp);
}

class SandboxInit final : public Procedure {
 public:
  SandboxInit(int user_namespace, const std::string& label) : user_namespace_(user_namespace), label_(label) {}

  void enter(const Child& child) override {
    leave_monitor(child);
    if (user_namespace_ >= 0) enter_user_namespace(child, user_namespace_);
  }

  void set_up(const Child& child) override {
    child.check(setsid(), Step::start_session);
    prctl(PR_SET_NAME, "keelson-init", 0, 0, 0);  // for ps; on failure it keeps the monitor's name
    const Fd label = label_.empty() ? Fd() : Fd(open("/proc/self/attr/current", O_WRONLY | O_CLOEXEC));
    leave_procfs(child);
    child.check(unshare(CLONE_NEWNS), Step::make_namespaces);
    isolate(child);
    // Set without an execve, which not every policy allows; on failure it keeps the monitor's label.
    if (label) static_cast<void>(!write(label.get(), label_.data(), label_.size()));
    child.check(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), Step::reset_signals);
    // With SIGCHLD ignored, the kernel reaps all orphans.
    signal(SIGCHLD, SIG_IGN);
    limit_resources(child);
    // The last step whose failure can be reported.
    allow_only_waiting(child);
    child.settle();
    // Closing the report socket signals success, as execve does elsewhere. If it fails, the filter kills the process.
    if (close_range(0, ~0U, 0) != 0) _exit(1);
    for (;;) syscall(SYS_ppoll, nullptr, 0, nullptr, nullptr, 0);
  }

  const LastSteps* last_steps() const override { return nullptr; }

 private:
  int user_namespace_;
  const std::string& label_;
};

}  // namespace

Result<PodInit> start_pod_init(Loop& loop, Reaper& reaper, int user_namespace, const std::string& label) {
  SandboxInit init(user_namespace, label);
  SpawnOptions options;
  options.new_namespaces = CLONE_NEWPID | CLONE_NEWNS;
  // Namespaces are owned by the user namespace of the process that creates them.
  if (user_namespace >= 0) options.way = SpawnWay::helper_then_new_namespaces;
  Started started = TRY(about(spawn_and_wait(loop, reaper, init, std::move(options)), "the pod's init"));
  return PodInit{started.pid, std::move(started.sent)};
}

}  // namespace keelson
