// cgroup v1 only: the files that OCI resources are written to, and making a directory usable.
#pragma once

#include <string>

#include "common/error.h"
#include "common/json.h"
#include "monitor/cgroup/cgroupfs.h"

namespace keelson::v1 {

// Copies the parent's cpuset to a new directory, because a cgroup with an empty cpuset takes no processes. False if the
// parent's is empty too.
Result<bool> inherit_cpuset(const std::string& directory);
// The same for a directory that may have existed before and have its own cpuset.
Status fill_cpuset(const std::string& directory);

// Writes OCI linux.resources to the cgroup at `path` of each hierarchy, all or nothing.
Status apply(const CgroupHost& host, const std::string& path, const Json& resources);

// Thaws a directory of the freezer hierarchy and its descendants, each of which may have been frozen separately: a
// process in a frozen v1 cgroup cannot even be killed.
void thaw(const std::string& directory);

}  // namespace keelson::v1
