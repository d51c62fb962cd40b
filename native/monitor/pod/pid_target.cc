#include "monitor/pod/pid_target.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <utility>

namespace keelson {

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

}  // namespace keelson
