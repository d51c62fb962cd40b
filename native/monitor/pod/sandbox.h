// The pod's own namespaces: created, pinned under <pod dir>/ns/, and removed again.
// The monitor itself stays in the pod's IPC and UTS namespaces, and otherwise in the host's namespaces.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>

#include "common/error.h"
#include "common/fd.h"
#include "monitor/cgroup/cgroupfs.h"
#include "monitor/pod/sandbox_spec.h"

namespace keelson {

// The parts of a sandbox that exist; after a failed step `destroy` removes them.
struct Sandbox {
  SandboxSpec spec;
  std::string pod_dir;
  Fd net_ns, pid_ns, user_ns;  // only those of the pod
  Fd procfs_space;             // a mount namespace that has only the shared PID namespace's procfs
  pid_t init_pid = 0;          // the built-in init, 0 without a shared PID namespace
};

class Loop;
class Reaper;

// Called once the pod's network namespace is pinned and network plugins may be run.
using NetworkMade = std::function<void()>;

// Creates everything, running the loop meanwhile; after a failure it has called abandon_sandbox.
Result<Sandbox> create_sandbox(Loop& loop, Reaper& reaper, const CgroupHost& cgroups, SandboxSpec spec,
                               const std::string& pod_dir, const NetworkMade& network_made);

// Sets sysctls of the pod's own network once it is complete: those of an interface exist only with the interface.
Status set_network_sysctls(const Sandbox& sandbox, const Sysctls& sysctls);

// Unpins, unmounts, removes the cgroup. Continues after a failure and returns the first one.
// The caller has killed and reaped the containers; the init is killed here and reaped by the caller's loop.
Status destroy_sandbox(Sandbox& sandbox, const CgroupHost& cgroups);

// The same for a sandbox whose start failed, except that its network stays pinned: network plugins may be running, and
// can only find what they created on the host through the pin.
void abandon_sandbox(Sandbox& sandbox, const CgroupHost& cgroups);

}  // namespace keelson
