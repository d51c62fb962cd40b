// Executing a command in a running container: the steps to enter it, in order.
#pragma once

#include <memory>
#include <string>

#include "monitor/cgroup/cgroup.h"
#include "monitor/pod/sandbox.h"
#include "monitor/setup/seccomp_filter.h"
#include "monitor/setup/spawn.h"
#include "monitor/setup/spec.h"
#include "monitor/setup/child.h"

namespace keelson {

// The container that an exec enters; everything except the slot is borrowed during the call.
struct ExecTarget {
  const std::string& id;
  const Sandbox& sandbox;
  const Cgroup& cgroup;
  const ContainerSpec& spec;
  pid_t init = 0;
  int pidfd = -1;              // of its init
  std::shared_ptr<void> slot;  // held until nothing is left of the start
};

// `done` is called when execve has succeeded, or with the error of the failed step, after which nothing is left behind.
std::shared_ptr<Attempt> spawn_container_exec(Loop& loop, Reaper& reaper, const ExecTarget& target,
                                              const SeccompFilter& filter, const CommandSpec& command, Stdio stdio,
                                              Done<Started> done);

}  // namespace keelson
