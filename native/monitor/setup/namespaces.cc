// Sources: namespaces(7), user_namespaces(7), credentials(7), ioctl_nsfs(2).
#include "monitor/setup/namespaces.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/nsfs.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <utility>

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
  Fd map(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!map) return fail_errno("open " + path);
  // The kernel takes a map in one write, and once.
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
      return fail(Kind::invalid, "open the namespace " + space.path, "it is not of the type it is named for");
    }
    joined.push_back({space.flag, space.path, std::move(fd)});
  }
  return joined;
}

void join_namespaces(const Child& child, const std::vector<JoinedNamespace>& spaces) {
  for (const JoinedNamespace& space : spaces) {
    if (setns(space.fd.get(), space.flag) != 0) child.die(Step::join_namespace, space.path.c_str());
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
  if (pid < 0) return fail_errno("make the user namespace");
  if (pid == 0) {
    // Should the monitor die meanwhile, nobody else would end this.
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) _exit(1);
    for (;;) pause();
  }
  NamespaceHolder holder;
  holder.pid_ = static_cast<pid_t>(pid);
  holder.pidfd_ = Fd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!holder.pidfd_) return fail_errno("open a pidfd of the namespaces' holder");
  TRY(write_map(holder.pid_, "uid_map", uids));
  TRY(write_map(holder.pid_, "gid_map", gids));
  return holder;
}

NamespaceHolder::NamespaceHolder(NamespaceHolder&& other) noexcept
    : pid_(std::exchange(other.pid_, 0)), pidfd_(std::move(other.pidfd_)) {}

NamespaceHolder::~NamespaceHolder() {
  if (pid_ > 0) kill(pid_, SIGKILL);  // the reaper takes it, as any child
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
  if (setns(fd, CLONE_NEWUSER) != 0) child.die(Step::join_namespace, "user");
  become_namespace_root(child);
}

void become_namespace_root(const Child& child) {
  if (setgroups(0, nullptr) != 0 || setresgid(0, 0, 0) != 0) child.die(Step::set_groups);
  if (setresuid(0, 0, 0) != 0) child.die(Step::set_user);
}

}  // namespace keelson
