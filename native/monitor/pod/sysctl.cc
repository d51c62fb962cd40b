// Sources: Documentation/admin-guide/sysctl/, the kernel's ipc and net tables.
#include "monitor/pod/sysctl.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "common/credentials.h"
#include "common/fd.h"

namespace keelson {

namespace {

constexpr int inside_limit_ms = 2'000;

std::unexpected<Error> refuse(std::string_view name, std::string why) {
  return fail(Kind::invalid, "set the sysctl " + std::string(name), std::move(why));
}

bool is_name(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  });
}

// The CLONE_NEW* namespace of a sysctl ("net.ipv4.ip_forward"); 0 if it applies to the whole host.
int sysctl_namespace(std::string_view name) {
  static constexpr std::string_view ipc_names[] = {
      "kernel.msgmax",         "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
      "kernel.shmall",         "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
      "kernel.msg_next_id",    "kernel.sem_next_id", "kernel.shm_next_id",
  };
  if (name.starts_with("net.")) return CLONE_NEWNET;
  if (name.starts_with("fs.mqueue.")) return CLONE_NEWIPC;
  if (std::ranges::find(ipc_names, name) != std::end(ipc_names)) return CLONE_NEWIPC;
  if (name == "kernel.domainname" || name == "kernel.hostname") return CLONE_NEWUTS;
  return 0;
}

}  // namespace

Result<std::vector<Sysctl>> check_sysctls(const std::vector<std::pair<std::string, std::string>>& sysctls, int own) {
  std::vector<Sysctl> checked;
  for (const auto& [name, value] : sysctls) {
    if (!is_name(name) || name.find("..") != name.npos || name.ends_with('.')) {
      return refuse(name, "a sysctl's name must consist of letters, digits, '_' and '-' separated by dots");
    }
    if (value.find_first_of(std::string_view("\0\n", 2)) != value.npos) {
      return refuse(name, "its value contains a NUL or a newline");
    }
    int space = sysctl_namespace(name);
    if (space == 0) return refuse(name, "it has no namespace and would apply to the whole host");
    if ((space & own) == 0) return refuse(name, "the pod uses the host's namespace for it");
    Sysctl sysctl{name, value};
    std::replace(sysctl.file.begin(), sysctl.file.end(), '.', '/');
    checked.push_back(std::move(sysctl));
  }
  return checked;
}

int write_sysctl(const Sysctl& sysctl) {
  const Fd root(open("/proc/sys", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root) return errno;
  const Fd file = open_resolved(root.get(), sysctl.file.c_str(), O_WRONLY,
                                RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV);
  return file && write(file.get(), sysctl.value.data(), sysctl.value.size()) >= 0 ? 0 : errno;
}

int write_sysctl_inside(const Sysctl& sysctl, int user_namespace) {
  int pidfd = -1;
  clone_args args = {};
  args.flags = CLONE_PIDFD;
  args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  args.exit_signal = SIGCHLD;
  const long pid = syscall(SYS_clone3, &args, sizeof args);
  if (pid < 0) return errno;
  if (pid == 0) {
    bool inside = setns(user_namespace, CLONE_NEWUSER) == 0 && set_gids(0) == 0 && set_uids(0) == 0;
    _exit(inside ? write_sysctl(sysctl) : errno);
  }
  Fd ended(pidfd);
  pollfd wait = {ended.get(), POLLIN, 0};
  if (poll(&wait, 1, inside_limit_ms) <= 0) kill(static_cast<pid_t>(pid), SIGKILL);
  siginfo_t info = {};
  if (waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED) != 0) return errno;
  return info.si_code == CLD_EXITED ? info.si_status : ETIMEDOUT;
}

}  // namespace keelson
