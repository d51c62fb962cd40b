// Creates a sandbox: the monitor enters each new namespace, pins and configures it, and returns to the host's network
// namespace.
#include "monitor/pod/sandbox.h"

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <initializer_list>
#include <vector>

#include "common/file.h"
#include "monitor/cgroup/cgroup.h"
#include "monitor/setup/namespaces.h"
#include "monitor/pod/sysctl.h"
#include "monitor/setup/filesystem.h"

namespace keelson {

namespace {

struct PodNamespace {
  const char* name;  // in /proc/self/ns and in <pod dir>/ns
  int flag;
  Scope SandboxSpec::*scope;
};

// The namespaces that the monitor can enter itself; a PID namespace applies only to new processes.
constexpr PodNamespace entered[] = {
    {"net", CLONE_NEWNET, &SandboxSpec::net},
    {"ipc", CLONE_NEWIPC, &SandboxSpec::ipc},
    {"uts", CLONE_NEWUTS, &SandboxSpec::uts},
};

int flags_of(const SandboxSpec& spec) {
  int flags = 0;
  for (const PodNamespace& space : entered) {
    if (spec.*space.scope == Scope::pod) flags |= space.flag;
  }
  return flags;
}

std::string pin_path(const Sandbox& sandbox, const char* name) { return sandbox.pod_dir + "/ns/" + name; }
std::string shm_path(const Sandbox& sandbox) { return sandbox.pod_dir + "/shm"; }
std::string files_path(const Sandbox& sandbox) { return sandbox.pod_dir + "/files"; }

Result<Fd> pin(const std::string& source, const std::string& path) {
  Fd file(open(path.c_str(), O_RDONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file) return fail_errno("create " + path);
  if (mount(source.c_str(), path.c_str(), nullptr, MS_BIND, nullptr) != 0) return fail_errno("pin " + path);
  // A pin that propagates to the host's peer mounts would keep the namespace alive after the monitor has exited.
  if (mount(nullptr, path.c_str(), nullptr, MS_PRIVATE, nullptr) != 0) return fail_errno("pin " + path);
  return open_file(path, O_RDONLY);
}

// With a path of its own, ns/net is a link to it. The link comes first: whoever cleans up finds the pin through it.
Result<Fd> pin_network(const Sandbox& sandbox) {
  const std::string& path = sandbox.spec.netns;
  const std::string usual = pin_path(sandbox, "net");
  if (path.empty()) return pin("/proc/self/ns/net", usual);
  if (symlink(path.c_str(), usual.c_str()) != 0) return fail_errno("create " + usual);
  return pin("/proc/self/ns/net", path);
}

// For a namespace that the monitor stays in. A pin would add one more mount to the host's mount table, which is copied
// at the start of every container of every pod.
Status link_own(const char* name, const std::string& path) {
  const std::string own = "/proc/" + std::to_string(getpid()) + "/ns/" + name;
  if (symlink(own.c_str(), path.c_str()) != 0) return fail_errno("create " + path);
  return {};
}

Status raise_loopback() {
  Fd socket_fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket_fd) return fail_errno("open a socket for the loopback interface");
  ifreq request = {};
  strcpy(request.ifr_name, "lo");
  if (ioctl(socket_fd.get(), SIOCGIFFLAGS, &request) != 0) return fail_errno("read the loopback interface's flags");
  request.ifr_flags |= IFF_UP | IFF_RUNNING;
  if (ioctl(socket_fd.get(), SIOCSIFFLAGS, &request) != 0) return fail_errno("bring the loopback interface up");
  return {};
}

// A new network namespace inherits these from the host or from the kernel's defaults: on a node that forwards to its
// loopback interface all pods would do so too (CVE-2020-8558), and any neighbour could become their router
// (CVE-2020-10749). Later interfaces start with the values of "default". The last two protect a host's services from
// its unprivileged users; a pod has no such users, and containerd (since 2.0) and Docker also let containers without
// root listen on any port.
Status set_network_defaults() {
  static constexpr struct {
    const char *file, *value;
  } defaults[] = {
      {"net/ipv4/conf/all/route_localnet", "0"},
      {"net/ipv4/conf/default/route_localnet", "0"},
      {"net/ipv4/conf/lo/route_localnet", "0"},
      {"net/ipv6/conf/all/accept_ra", "0"},
      {"net/ipv6/conf/default/accept_ra", "0"},
      {"net/ipv6/conf/lo/accept_ra", "0"},
      {"net/ipv4/ip_unprivileged_port_start", "0"},
      {"net/ipv4/ping_group_range", "0 2147483647"},
  };
  for (const auto& [file, value] : defaults) {
    int error = write_sysctl({file, value});
    // ENOENT: a kernel without IPv6.
    if (error != 0 && error != ENOENT) return fail_errno("set the sysctl " + std::string(file), error);
  }
  return {};
}

// Since Linux 5.19 the files of an IPC namespace are writable only for the root of its owning user namespace, no longer
// for the host's root (EACCES); those of the network and the hostname only for the host's root. Returns errno or 0.
int write_pod_sysctl(const Sysctl& sysctl, const Fd& user_ns) {
  int error = write_sysctl(sysctl);
  return error == EACCES && user_ns ? write_sysctl_inside(sysctl, user_ns.get()) : error;
}

// Whether the error is about the name or value and not about the kernel's state.
bool blames_sysctl(int error) {
  return error == EINVAL || error == ERANGE || error == ENOENT || error == EISDIR || error == EACCES || error == EPERM;
}

Status write_sysctls(const Sandbox& sandbox, const std::vector<Sysctl>& sysctls) {
  for (const Sysctl& sysctl : sysctls) {
    const int error = write_pod_sysctl(sysctl, sandbox.user_ns);
    if (error == 0) continue;
    const Kind kind = blames_sysctl(error) ? Kind::invalid : Kind::system;
    return std::unexpected(Error{kind, "set the sysctl " + sysctl.file, {}, error, {}});
  }
  return {};
}

// In the pod's namespaces: everything that is set from inside. First what the pod's network setup waits for.
Status configure(Loop& loop, Reaper& reaper, Sandbox& sandbox, const NetworkMade& network_made) {
  const SandboxSpec& spec = sandbox.spec;
  if (spec.net == Scope::pod) {
    TRY(raise_loopback());
    TRY(set_network_defaults());
  }
  const std::vector<Sysctl> sysctls = TRY(check_sysctls(spec.sysctls, flags_of(spec)));
  TRY(write_sysctls(sandbox, sysctls));
  for (const PodNamespace& space : entered) {
    if (spec.*space.scope != Scope::pod) continue;
    if (space.flag == CLONE_NEWNET) {
      sandbox.net_ns = TRY(pin_network(sandbox));
      network_made();
    } else {
      TRY(link_own(space.name, pin_path(sandbox, space.name)));
    }
  }
  if (spec.uts == Scope::pod && !spec.hostname.empty() &&
      sethostname(spec.hostname.data(), spec.hostname.size()) != 0) {
    return fail_errno("set the hostname " + spec.hostname);
  }
  if (spec.pid == Scope::pod) {
    PodInit init = TRY(start_pod_init(loop, reaper, sandbox.user_ns.get(), spec.process_label));
    sandbox.init_pid = init.pid;
    sandbox.procfs_space = std::move(init.procfs_space);
    sandbox.pid_ns = TRY(pin("/proc/" + std::to_string(init.pid) + "/ns/pid", pin_path(sandbox, "pid")));
  }
  return {};
}

// Namespaces owned by the pod's user namespace are created by a process in it, because the monitor could not return
// from there.
Status enter_owned(Sandbox& sandbox) {
  const SandboxSpec& spec = sandbox.spec;
  const int flags = flags_of(spec);
  const NamespaceHolder holder =
      TRY(NamespaceHolder::create(static_cast<uint64_t>(flags), spec.uid_mappings, spec.gid_mappings));
  sandbox.user_ns = TRY(pin(holder.path("user"), pin_path(sandbox, "user")));
  if (flags != 0 && setns(holder.pidfd(), flags) != 0) return fail_errno("enter the pod's namespaces");
  return {};
}

Status enter_new(Sandbox& sandbox) {
  if (!sandbox.spec.uid_mappings.empty()) return enter_owned(sandbox);
  if (unshare(flags_of(sandbox.spec)) != 0) return fail_errno("create the pod's namespaces");
  return {};
}

// Enters new namespaces, configures them, and returns to the host's network namespace even after a failure.
Status make_namespaces(Loop& loop, Reaper& reaper, Sandbox& sandbox, const NetworkMade& network_made) {
  const Fd host(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!host) return fail_errno("open the host's network namespace");
  Status configured = enter_new(sandbox);
  if (configured) configured = configure(loop, reaper, sandbox, network_made);
  if (setns(host.get(), CLONE_NEWNET) != 0) return fail_errno("return to the host's network namespace");
  return configured;
}

// At <pod dir>/<name>, for the containers: noexec, nodev and nosuid.
Status make_tmpfs(const std::string& path, const std::string& label, std::initializer_list<FsOption> options) {
  if (mkdir(path.c_str(), 0755) != 0) return fail_errno("create " + path);
  Fd mounted(new_mount("tmpfs", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, label));
  if (!mounted) return fail_errno("mount " + path);
  Fd target(open(path.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!target || attach_mount(mounted.get(), target.get()) != 0) return fail_errno("mount " + path);
  return {};
}

Status make_shm(const Sandbox& sandbox) {
  const SandboxSpec& spec = sandbox.spec;
  const std::string owner = std::to_string(host_id(spec.uid_mappings, 0));
  const std::string group = std::to_string(host_id(spec.gid_mappings, 0));
  const std::string size = std::to_string(spec.shm_size);
  return make_tmpfs(shm_path(sandbox), spec.mount_label,
                    {{"source", "shm"},
                     {"mode", "1777"},
                     {"uid", owner.c_str()},
                     {"gid", group.c_str()},
                     {"size", size.c_str()}});
}

// Containers may write to the pod's files. In their own tmpfs this is limited to 256 KiB, a few pages of any size,
// and charged to the memory of the container that writes; directly on /run it would use the host's memory.
Status make_files(const Sandbox& sandbox) {
  return make_tmpfs(files_path(sandbox), sandbox.spec.mount_label,
                    {{"source", "pod"}, {"mode", "0755"}, {"size", "256k"}, {"nr_inodes", "16"}});
}

Status make_all(Loop& loop, Reaper& reaper, const CgroupHost& cgroups, Sandbox& sandbox,
                const NetworkMade& network_made) {
  const std::string pins = sandbox.pod_dir + "/ns";
  if (mkdir(pins.c_str(), 0700) != 0) return fail_errno("create " + pins);
  TRY(make_namespaces(loop, reaper, sandbox, network_made));
  if (!sandbox.spec.cgroup.empty()) TRY(Cgroup::create(cgroups, sandbox.spec.cgroup));
  TRY(make_files(sandbox));
  if (sandbox.spec.ipc == Scope::pod) TRY(make_shm(sandbox));
  return {};
}

Status remove_own_cgroup(const CgroupHost& cgroups, const SandboxSpec& spec) {
  if (!spec.own_cgroup || spec.cgroup.empty()) return {};
  if (TRY(Cgroup::open(cgroups, spec.cgroup).remove())) return {};
  return fail_errno("remove the cgroup " + spec.cgroup, EBUSY);
}

Status destroy(Sandbox& sandbox, const CgroupHost& cgroups, bool keeps_network) {
  Status first;
  auto note = [&](Status status) {
    if (!status && first) first = std::move(status);
  };
  if (sandbox.init_pid > 0) {
    kill(sandbox.init_pid, SIGKILL);
    sandbox.init_pid = 0;
  }
  auto take_down = [&](const std::string& path) {
    if (unmount(path.c_str()) != 0) note(fail_errno("unmount " + path));
  };
  for (const std::string& path : {shm_path(sandbox), files_path(sandbox)}) {
    take_down(path);
    rmdir(path.c_str());
  }
  std::vector<std::string> pins{pin_path(sandbox, "pid"), pin_path(sandbox, "user")};
  if (!keeps_network) {
    if (!sandbox.spec.netns.empty()) pins.push_back(sandbox.spec.netns);
    pins.push_back(pin_path(sandbox, "net"));
  }
  for (const std::string& path : pins) {
    take_down(path);
    unlink(path.c_str());
  }
  for (const char* name : {"ipc", "uts"}) unlink(pin_path(sandbox, name).c_str());
  rmdir((sandbox.pod_dir + "/ns").c_str());
  for (Fd* fd : {&sandbox.net_ns, &sandbox.pid_ns, &sandbox.user_ns, &sandbox.procfs_space}) fd->reset();
  note(remove_own_cgroup(cgroups, sandbox.spec));
  return about(std::move(first), "pod " + sandbox.spec.id);
}

}  // namespace

Result<Sandbox> create_sandbox(Loop& loop, Reaper& reaper, const CgroupHost& cgroups, SandboxSpec spec,
                               const std::string& pod_dir, const NetworkMade& network_made) {
  const std::string pod = "pod " + spec.id;
  Sandbox sandbox;
  sandbox.spec = std::move(spec);
  sandbox.pod_dir = pod_dir;
  if (Status made = make_all(loop, reaper, cgroups, sandbox, network_made); !made) {
    abandon_sandbox(sandbox, cgroups);
    return about(std::unexpected(std::move(made.error())), pod);
  }
  return sandbox;
}

Status set_network_sysctls(const Sandbox& sandbox, const Sysctls& sysctls) {
  const std::vector<Sysctl> checked = TRY(check_sysctls(sysctls, flags_of(sandbox.spec) & CLONE_NEWNET));
  if (checked.empty()) return {};
  const Fd home = TRY(open_file("/proc/self/ns/net", O_RDONLY));
  if (setns(sandbox.net_ns.get(), CLONE_NEWNET) != 0) return fail_errno("enter the pod's network namespace");
  Status written = write_sysctls(sandbox, checked);
  if (setns(home.get(), CLONE_NEWNET) != 0) return fail_errno("return to the host's network namespace");
  return written;
}

Status destroy_sandbox(Sandbox& sandbox, const CgroupHost& cgroups) {
  return destroy(sandbox, cgroups, /*keeps_network=*/false);
}

void abandon_sandbox(Sandbox& sandbox, const CgroupHost& cgroups) {
  // A failure of the undo is ignored: the error that caused it is reported.
  static_cast<void>(destroy(sandbox, cgroups, /*keeps_network=*/true));
}

}  // namespace keelson
