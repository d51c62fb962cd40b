// Device rules on cgroup v2, which has no files for them: a BPF program on the cgroup.
#pragma once

#include <vector>

#include "common/error.h"
#include "monitor/cgroup/device_rules.h"

namespace keelson {

// Replaces the cgroup's device programs, if it has any, by one made from the rules.
Status attach_device_filter(int cgroup, const std::vector<DeviceRule>& rules);

}  // namespace keelson
