// The container's /dev: the nodes and links every container has, and those its spec adds.
#pragma once

#include <vector>

#include "child.h"
#include "spec.h"

namespace keelson {

// Whether /dev is the host's own (bind mounted): then nothing is made in it.
bool has_foreign_dev(const ContainerSpec& spec);

void make_devices(const Child& child, int root, const std::vector<DeviceSpec>& extra);

}  // namespace keelson
