// setrlimit and oom_score_adj in the child. Sources: getrlimit(2), proc_pid_oom_score_adj(5).
#include "monitor/setup/limits.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace keelson {

namespace {

// getrlimit's argument is an enum in C++ with glibc.
auto resource_of(const Rlimit& limit) { return static_cast<__rlimit_resource_t>(limit.resource); }

}  // namespace

void set_rlimits(const Child& child, const std::vector<Rlimit>& limits) {
  for (const Rlimit& limit : limits) {
    rlimit wanted = {limit.soft, limit.hard};
    if (setrlimit(resource_of(limit), &wanted) == 0) continue;
    rlimit present;
    if (errno != EPERM || getrlimit(resource_of(limit), &present) != 0) child.die(Step::set_rlimit);
    wanted.rlim_max = std::min(wanted.rlim_max, present.rlim_max);
    wanted.rlim_cur = std::min(wanted.rlim_cur, wanted.rlim_max);
    if (setrlimit(resource_of(limit), &wanted) != 0) child.die(Step::set_rlimit);
  }
}

void set_oom_score(const Child& child, const char* text) {
  int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (file < 0) child.die(Step::set_oom_score, text);
  if (write(file, text, strlen(text)) < 0 && errno != EACCES) child.die(Step::set_oom_score, text);
  close(file);
}

}  // namespace keelson
