// Starting a container: the ordered steps that make its init from its bundle.
#pragma once

#include <memory>
#include <string>

#include "monitor/cgroup/cgroup.h"
#include "monitor/pod/sandbox.h"
#include "monitor/setup/namespaces.h"
#include "monitor/setup/seccomp_filter.h"
#include "monitor/setup/spawn.h"
#include "monitor/setup/spec.h"
#include "monitor/setup/child.h"

namespace keelson {

// What a container is started from; all of it is borrowed during the call alone.
struct InitOrder {
  const std::string& id;      // the container's
  const std::string& bundle;  // directory
  const Sandbox& sandbox;
  const Cgroup& cgroup;       // which the process enters before its first instruction runs
  const ContainerSpec& spec;  // the bundle's config.json
  const RootfsSpec& rootfs;   // its rootfs.json
  const SeccompFilter& filter;
  const PidTarget& pid_target;  // the neighbour whose PID namespace is joined, if it is neither an own one nor the pod's
  int empty_mounts = -1;        // a mount namespace to begin with (common/empty_mounts.h); -1: a copy of the host's
};

// `done` comes when execve has succeeded, or with the error of the step that failed and nothing left behind.
std::shared_ptr<Attempt> spawn_container_init(Loop& loop, Reaper& reaper, const InitOrder& order, Stdio stdio,
                                              Done<Started> done);

}  // namespace keelson
