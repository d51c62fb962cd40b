// Starting a container: the steps that create its init from its bundle, in order.
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

// What a container is started from; all of it is borrowed, and only during the call.
struct InitOrder {
  const std::string& id;      // the container's
  const std::string& bundle;  // directory
  const Sandbox& sandbox;
  const Cgroup& cgroup;       // which the process enters before its first instruction runs
  const ContainerSpec& spec;  // the bundle's config.json
  const RootfsSpec& rootfs;   // its rootfs.json
  const SeccompFilter& filter;
  const PidTarget& pid_target;  // the container whose PID namespace is joined, unless it is a new one or the pod's
  int empty_mounts = -1;        // mount namespace to start from (common/empty_mounts.h); -1: a copy of the host's
};

// `done` is called when execve has succeeded, or with the error of the failed step, after which nothing is left behind.
std::shared_ptr<Attempt> spawn_container_init(Loop& loop, Reaper& reaper, const InitOrder& order, Stdio stdio,
                                              Done<Started> done);

}  // namespace keelson
