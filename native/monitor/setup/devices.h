// The container's /dev: the nodes and links every container has, and those its spec adds.
#pragma once

#include <string>
#include <vector>

#include "monitor/setup/child.h"
#include "monitor/setup/spec.h"

namespace keelson {

// The mount of a /dev that is the host's own (bind mounted): then nothing is made in it. Null of a container's own.
const MountSpec* foreign_dev(const ContainerSpec& spec);

// But for those in whose place something is mounted, here and below.
void make_devices(const Child& child, int root, const ContainerSpec& spec);

// In a user namespace nobody may make a device node: they are made outside and bound to their places.
struct OutsideDevice {
  DeviceSpec spec;   // its owner in the host's ids
  std::string name;  // in the scratch directory
  Fd tree;
};
std::vector<OutsideDevice> plan_outside_devices(const ContainerSpec& spec, const std::vector<IdMapping>& uids,
                                                const std::vector<IdMapping>& gids);
// As the host's root, in the directory `scratch` of a mounted file system that has devices.
void make_outside_devices(const Child& child, int scratch, std::vector<OutsideDevice>& devices);
void bind_devices(const Child& child, int root, const std::vector<OutsideDevice>& devices);

}  // namespace keelson
