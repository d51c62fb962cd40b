// sandbox.json (PROTOCOL.md, "Start"): what a pod's namespaces, cgroup and files are to be.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/error.h"
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

// Fails with Kind::invalid if the text is not a valid sandbox.json.
Result<SandboxSpec> parse_sandbox(std::string_view sandbox_json);

}  // namespace keelson
