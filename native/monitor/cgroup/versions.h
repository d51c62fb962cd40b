// What differs between cgroup v1 and v2: making a directory of a hierarchy usable,
// and the files that OCI resources are written to. cgroup.cc chooses.
#pragma once

#include <string>
#include <string_view>

#include "monitor/cgroup/cgroup.h"

namespace keelson {

// For a directory of v1's cpuset hierarchy: an empty one takes no process, so it gets its parent's.
Status fill_v1_cpuset(const std::string& directory);
// For a v2 directory that is to have children: its controllers are handed down to them.
Status delegate_v2_controllers(const std::string& directory);

Status apply_v1(const CgroupHost& host, const std::string& path, const Json& resources);
Status apply_v2(const CgroupHost& host, const std::string& path, const Json& resources);

}  // namespace keelson
