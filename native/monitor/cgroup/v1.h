// What is of cgroup v1 alone: the files that OCI resources are written to, and making a directory usable.
#pragma once

#include <string>

#include "common/error.h"
#include "common/json.h"
#include "monitor/cgroup/cgroupfs.h"

namespace keelson::v1 {

// For a new directory of the cpuset hierarchy: an empty one takes no process, so it gets its parent's. False when that
// is empty too.
Result<bool> inherit_cpuset(const std::string& directory);
// For one that may have been there, and then may have its own.
Status fill_cpuset(const std::string& directory);

// Writes OCI linux.resources to the cgroup at `path` of each hierarchy, all or nothing.
Status apply(const CgroupHost& host, const std::string& path, const Json& resources);

// For a directory of the freezer hierarchy and those below, each of which may have been frozen on its own: a process
// in a frozen v1 cgroup does not even die.
void thaw(const std::string& directory);

}  // namespace keelson::v1
