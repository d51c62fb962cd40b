// What a container sees at /sys/fs/cgroup: its own cgroups and none of its neighbours'.
#pragma once

#include <string_view>

#include "monitor/setup/mounts.h"

namespace keelson {

void plan_cgroup_mount(PlannedMount& plan, const CgroupHost& host, std::string_view cgroup_path, bool own_namespace);
void make_cgroup_mount(const Child& child, int root, const PlannedMount& mount);

}  // namespace keelson
