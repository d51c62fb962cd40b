// The pod's own namespaces: created, pinned under <pod dir>/ns/, and removed again.
// The monitor itself stays in the pod's IPC and UTS namespaces, and otherwise in the host's namespaces.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/error.h"
#include "common/fd.h"
#include "common/json.h"
#include "monitor/cgroup/cgroupfs.h"
#include "monitor/setup/spec.h"

namespace keelson {

// Dotted names and their values.
using Sysctls = std::vector<std::pair<std::string, std::string>>;
Sysctls read_sysctls(const Json& json);

enum class Scope { pod, host, container };

struct SandboxSpec {
  std::string id;
  std::string hostname;
  Scope net = Scope::pod;
  Scope ipc = Scope::pod;
  Scope uts = Scope::pod;
  Scope pid = Scope::container;
  std::vector<IdMapping> uid_mappings;  // empty: no user namespace
  std::vector<IdMapping> gid_mappings;
  std::string netns;                    // where the network namespace is pinned; empty: ns/net
  Sysctls sysctls;
  uint64_t shm_size = 64 << 20;  // bytes
  std::string process_label;     // SELinux label of the init of a shared PID namespace; empty: none
  std::string mount_label;       // SELinux label of shm/ and files/; empty: none
  CgroupHost hierarchies;
  std::string cgroup;
  bool own_cgroup = false;
};

// Reads sandbox.json (PROTOCOL.md, "Start").
Result<SandboxSpec> parse_sandbox(std::string_view sandbox_json);

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
