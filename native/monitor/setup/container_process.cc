// Sources: capabilities(7), credentials(7), seccomp(2), keyrings(7), execve(2), proc_pid_oom_score_adj(5), chdir(2),
// proc_pid_attr(5).
#include "monitor/setup/container_process.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <vector>

#include "common/credentials.h"
#include "monitor/setup/child.h"

namespace keelson {

namespace {

constexpr int last_possible_capability = 63;

uint64_t bit(int capability) { return uint64_t{1} << capability; }

uint64_t permitted_set() {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (syscall(SYS_capget, &header, data) != 0) return 0;
  return data[0].permitted | uint64_t{data[1].permitted} << 32;
}

// The capabilities of the monitor and the kernel; neither changes while the monitor runs.
struct HostCapabilities {
  uint64_t known = 0;
  uint64_t to_pass_on = 0;  // in the monitor's bounding set, and permitted to it
};

HostCapabilities ask_for_capabilities() {
  HostCapabilities host;
  for (int capability = 0; capability <= last_possible_capability; ++capability) {
    const int in_bounding_set = prctl(PR_CAPBSET_READ, capability, 0, 0, 0);
    if (in_bounding_set < 0) break;  // the kernel numbers them without a gap
    host.known |= bit(capability);
    if (in_bounding_set > 0) host.to_pass_on |= bit(capability);
  }
  host.to_pass_on &= permitted_set();
  return host;
}

const HostCapabilities& host_capabilities() {
  static const HostCapabilities host = ask_for_capabilities();
  return host;
}

void set_capabilities(const Child& child, uint64_t effective, uint64_t permitted, uint64_t inheritable) {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {
      {static_cast<uint32_t>(effective), static_cast<uint32_t>(permitted), static_cast<uint32_t>(inheritable)},
      {static_cast<uint32_t>(effective >> 32), static_cast<uint32_t>(permitted >> 32),
       static_cast<uint32_t>(inheritable >> 32)},
  };
  child.check(syscall(SYS_capset, &header, data), Step::set_capabilities);
}

void drop_bounding_set(const Child& child, uint64_t host, uint64_t kept) {
  for (int capability = 0; capability <= last_possible_capability; ++capability) {
    if ((host & ~kept & bit(capability)) == 0) continue;
    child.check(prctl(PR_CAPBSET_DROP, capability, 0, 0, 0), Step::set_capabilities);
  }
}

void raise_ambient_set(const Child& child, uint64_t ambient) {
  child.check(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), Step::set_capabilities);
  for (int capability = 0; capability <= last_possible_capability; ++capability) {
    if ((ambient & bit(capability)) == 0) continue;
    child.check(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0), Step::set_capabilities);
  }
}

void load_filter(const Child& child, const SeccompFilter* filter) {
  if (filter == nullptr || filter->program().empty()) return;
  const SeccompProgram& code = filter->program();
  sock_fprog program = {static_cast<unsigned short>(code.size()), const_cast<sock_filter*>(code.data())};
  child.check(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, filter->flags(), &program), Step::load_seccomp);
}

// Limits the capabilities to those that the monitor may pass on. A process that enters a user namespace has all
// capabilities in it.
Credentials plan_credentials(const ProcessSpec& process, const SeccompFilter* filter, bool in_user_namespace) {
  const uint64_t host = in_user_namespace ? host_capabilities().known : host_capabilities().to_pass_on;
  const Capabilities& wanted = process.capabilities;
  Credentials plan{{}, host, filter};
  // The kernel's rules for the sets (capabilities(7)), without which capset would refuse them all.
  plan.capabilities.bounding = wanted.bounding & host;
  plan.capabilities.permitted = wanted.permitted & host;
  plan.capabilities.effective = wanted.effective & plan.capabilities.permitted;
  plan.capabilities.inheritable = wanted.inheritable & plan.capabilities.bounding;
  plan.capabilities.ambient = wanted.ambient & plan.capabilities.permitted & plan.capabilities.inheritable;
  return plan;
}

// Sets the bounding set, groups, user, capabilities and the filter; only execve follows.
void take_credentials(const Child& child, const ProcessSpec& process, const Credentials& credentials) {
  const Capabilities& target = credentials.capabilities;
  drop_bounding_set(child, credentials.host_capabilities, target.bounding);
  // Without it the change of user would drop the capabilities that the next steps need.
  child.check(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), Step::set_capabilities);
  child.check(set_groups(process.groups.size(), process.groups.data()), Step::set_groups);
  child.check(set_gids(process.gid), Step::set_groups);
  child.check(set_uids(process.uid), Step::set_user);

  if (process.no_new_privileges) {
    set_capabilities(child, target.effective, target.permitted, target.inheritable);
    raise_ambient_set(child, target.ambient);
    child.check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), Step::set_no_new_privileges);
    load_filter(child, credentials.filter);
  } else {
    // A filter without no_new_privs needs CAP_SYS_ADMIN: it is loaded before the last capabilities are dropped, so it
    // must allow capset and prctl.
    const uint64_t host = credentials.host_capabilities;
    set_capabilities(child, host, host, 0);
    load_filter(child, credentials.filter);
    set_capabilities(child, target.effective, target.permitted, target.inheritable);
    raise_ambient_set(child, target.ambient);
  }
}

constexpr std::string_view default_path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// The first PATH of the environment, which is the one that getenv(3) in the command returns.
std::string_view path_of(const std::vector<std::string>& env) {
  for (const std::string& entry : env) {
    if (entry.starts_with("PATH=")) return std::string_view(entry).substr(5);
  }
  return default_path;
}

std::vector<std::string> candidates_for(const std::string& command, std::string_view path) {
  if (command.find('/') != command.npos || command.empty()) return {command};
  std::vector<std::string> candidates;
  while (!path.empty()) {
    size_t colon = path.find(':');
    std::string_view directory = path.substr(0, colon);
    // An empty or relative entry would search the working directory, which is unsafe.
    if (directory.starts_with('/')) candidates.push_back(std::string(directory) + "/" + command);
    if (colon == path.npos) break;
    path.remove_prefix(colon + 1);
  }
  return candidates;
}

// A filter without no_new_privs needs CAP_SYS_ADMIN (seccomp(2)), which a watched process never has: its helper loads
// the filter. With no_new_privs the helper loads it too if possible, so that the process never runs without it. The
// filter must then allow the spawn and the last steps.
Result<bool> filter_comes_last(const ProcessSpec& process, const CommandSpec& command, const SeccompFilter& filter,
                               bool is_watched) {
  if (!is_watched || filter.lets_last_steps_pass(command.terminal)) return false;
  if (process.no_new_privileges) return true;
  return fail(Kind::invalid, "load the seccomp filter",
              "the profile refuses clone, setsid or ioctl, without which nothing can be started in a shared PID "
              "namespace; allow them in it, or set allowPrivilegeEscalation to false");
}

// A score below the current one needs CAP_SYS_RESOURCE; without it the current one stays.
void set_oom_score(const Child& child, const std::string& score) {
  const Fd file = child.check(Fd(open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC)), Step::set_oom_score, score.c_str());
  if (write(file.get(), score.data(), score.size()) < 0 && errno != EACCES) child.die(Step::set_oom_score, score.c_str());
}

// Limits are not raised above the monitor's own hard limit, which would need CAP_SYS_RESOURCE.
void limit_open_files(const Child& child, const rlimit& wanted) {
  rlimit present = {};
  child.check(getrlimit(RLIMIT_NOFILE, &present), Step::set_limit, "open files");
  const rlimit limit = {std::min(wanted.rlim_cur, present.rlim_max), std::min(wanted.rlim_max, present.rlim_max)};
  child.check(setrlimit(RLIMIT_NOFILE, &limit), Step::set_limit, "open files");
}

// Sets an attribute of a security module, unless it is empty; child processes inherit it.
void set_attribute(const Child& child, const char* path, const std::string& value) {
  if (value.empty()) return;
  auto check = [&](auto made) { return child.check(std::move(made), Step::set_security_label, value.c_str()); };
  const Fd file = check(Fd(open(path, O_WRONLY | O_CLOEXEC)));
  check(write(file.get(), value.data(), value.size()));
}

}  // namespace

void drop_capabilities(const Child& child) {
  drop_bounding_set(child, host_capabilities().known, 0);
  set_capabilities(child, 0, 0, 0);
}

Result<ContainerProcess> ContainerProcess::plan(const ProcessSpec& process, const CommandSpec& command,
                                                const SeccompFilter& filter, const Surroundings& surroundings) {
  const bool filter_last = TRY(filter_comes_last(process, command, filter, surroundings.is_watched));
  const bool finds_home =
      std::ranges::none_of(process.env, [](const std::string& entry) { return entry.starts_with("HOME="); });
  std::vector<std::string> changed;
  if (command.terminal || finds_home) changed = process.env;
  if (command.terminal) changed = with_terminal_kind(std::move(changed));
  if (finds_home) changed.push_back(room_for_home());
  const std::vector<std::string>& env = changed.empty() ? process.env : changed;
  LastStepsPlan last{command.args, env, finds_home, candidates_for(command.args[0], path_of(env))};
  if (filter_last) last.filter = &filter;
  last.session = surroundings.is_watched;
  last.terminal = surroundings.is_watched && command.terminal;
  ContainerProcess plan(process, plan_credentials(process, filter_last ? nullptr : &filter, surroundings.in_user_namespace),
                        TRY(LastSteps::lay_out(last)), surroundings.is_watched);
  plan.finds_home_ = finds_home;
  plan.keyring_ = "keelson-" + std::string(surroundings.container_id);
  if (process.oom_score_adj) plan.oom_score_ = std::to_string(*process.oom_score_adj);
  if (!process.apparmor_profile.empty()) plan.apparmor_ = "exec " + process.apparmor_profile;
  return plan;
}

void ContainerProcess::set_score_and_labels(const Child& child) const {
  if (!oom_score_.empty()) set_oom_score(child, oom_score_);
  set_attribute(child, "/proc/self/attr/apparmor/exec", apparmor_);
  set_attribute(child, "/proc/self/attr/exec", process_.selinux_label);
  // The label of the session keyring created later, so that the container's processes can read it; reset by execve.
  set_attribute(child, "/proc/self/attr/keycreate", process_.selinux_label);
}

void ContainerProcess::join_keyring(const Child& child) const {
  if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, keyring_.c_str()) < 0 && errno != ENOSYS) {
    child.die(Step::join_keyring, keyring_.c_str());
  }
}

void ContainerProcess::become(const Child& child) const {
  if (is_watched_) close_all(child);
  else close_on_exec(child);
  umask(022);
  if (process_.open_files) limit_open_files(child, *process_.open_files);
  if (finds_home_) {
    char home[max_home];
    find_home(process_.uid, home);
    last_steps_.set_home(home);
  }
  const bool entered = enter_directory(child, false);
  if (is_watched_) last_steps_.hide_memory(child);
  take_credentials(child, process_, credentials_);
  if (!entered) enter_directory(child, true);
}

// Called first as root inside the container's root, then again as the user, who may be the only one with access (root
// squash on NFS). True if the directory has been entered.
bool ContainerProcess::enter_directory(const Child& child, bool last_try) const {
  const char* directory = process_.cwd.c_str();
  if (chdir(directory) != 0) {
    if (!last_try && errno == EACCES) return false;
    child.die(Step::change_directory, directory);
  }
  // A path through /proc/self/fd leads out of the root if a descriptor was leaked (CVE-2024-21626): getcwd then returns
  // a path that starts with "(unreachable)".
  char reached[PATH_MAX];
  child.check(syscall(SYS_getcwd, reached, sizeof reached), Step::change_directory, directory);
  if (reached[0] != '/') child.die(Step::refuse_directory_outside, directory, EXDEV);
  return true;
}

}  // namespace keelson
