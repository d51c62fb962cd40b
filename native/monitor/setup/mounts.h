// The mounts of config.json: planned by the monitor, created by the child inside the container's root.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/fd.h"
#include "monitor/cgroup/cgroup.h"
#include "monitor/pod/sandbox.h"
#include "monitor/setup/child.h"
#include "monitor/setup/rootfs.h"
#include "monitor/setup/spec.h"

namespace keelson {

// One entry of a v1 /sys/fs/cgroup: the container's own directory in a hierarchy, under the hierarchy's name.
struct CgroupEntry {
  std::string name;                  // "memory", "cpu,cpuacct"
  std::string directory;             // on the host
  std::vector<std::string> aliases;  // "cpu", "cpuacct", for a hierarchy with several controllers
  Fd tree = {};
};

struct PlannedMount {
  enum class Kind : uint8_t { bind, filesystem, cgroup };
  const MountSpec& spec;
  const std::string& label;  // SELinux label of what is created for it; empty: none
  Kind kind = Kind::filesystem;
  std::vector<std::pair<std::string, std::string>> options = {};  // key, value; "" for a flag
  bool cgroup_v2 = false;               // cgroup2, newly mounted unless `entries` has the host's; false: v1
  std::vector<CgroupEntry> entries = {};
  ImagePlan* image = nullptr;           // the image that a bind mount shows
  Fd owners = {};                       // user namespace that maps the owners of a bind mount
  Fd tree = {};                         // opened in the child: of a bind mount, or a shared procfs
};

// `spec` and `images` outlive the plans.
Result<std::vector<PlannedMount>> plan_mounts(const ContainerSpec& spec, std::vector<ImagePlan>& images,
                                              const Sandbox& sandbox, const CgroupHost& host,
                                              std::string_view cgroup_path);

// Copies every source out of the host's tree, with its options, except image volumes. Must be called while the mounts
// are still members of the host's peer groups, or "rshared" would have no effect.
void open_sources(const Child& child, std::vector<PlannedMount>& mounts);

// Takes the created image volumes, with the options of their mounts.
void take_image_views(const Child& child, std::vector<PlannedMount>& mounts);

// Makes the process's copy of the host's tree private, so that changes to it do not propagate.
void detach_from_host(const Child& child);

// Creates all mounts in order, on targets resolved below `root`.
void make_mounts(const Child& child, int root, std::vector<PlannedMount>& mounts);

}  // namespace keelson
