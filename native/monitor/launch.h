// Bearing one process of a container and waiting until it has executed its command.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "../common/error.h"
#include "../common/fd.h"
#include "child.h"
#include "process.h"

namespace keelson {

// What a child does. All of it was prepared before the clone: neither function allocates.
class ChildProgram {
 public:
  virtual ~ChildProgram() = default;
  // First, still invisible to the container: join what exists, drop every descriptor of the monitor.
  virtual void enter(const Child& child) = 0;
  // Then, as the container's process: ends in execve.
  [[noreturn]] virtual void run(const Child& child) = 0;
};

struct LaunchOptions {
  uint64_t new_namespaces = 0;  // CLONE_NEW* that the process is born with
  int cgroup_fd = -1;           // the v2 cgroup it is born into
  // The process shall live in a PID namespace that others look at already. Then a
  // helper does `enter` (which joins that namespace), and bears the process with
  // CLONE_PARENT when no descriptor of the host is left to be seen (CVE-2016-9962).
  bool by_helper = false;
};

// Kills and reaps a child of ours; waits at most 2 s, for a process can hang in the kernel.
void kill_and_reap(pid_t pid);

// At most 10 s; on failure the child is dead and reaped.
Result<Started> launch(ChildProgram& program, const LaunchOptions& options);

}  // namespace keelson
