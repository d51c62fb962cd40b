// The container's /dev: the nodes and links that every container has, and those added by its spec.
#pragma once

#include <string>
#include <vector>

#include "monitor/setup/child.h"
#include "monitor/setup/spec.h"

namespace keelson {

// The bind mount of the host's /dev, in which nothing is created. Null if the container has its own /dev.
const MountSpec* foreign_dev(const ContainerSpec& spec);

// Creates the devices, except (here and below) those over which something is mounted.
void make_devices(const Child& child, int root, const ContainerSpec& spec);

// In a user namespace device nodes cannot be created: they are created outside and bind mounted.
struct OutsideDevice {
  DeviceSpec spec;   // its owner in the host's ids
  std::string name;  // in the scratch directory
  Fd tree;
};
std::vector<OutsideDevice> plan_outside_devices(const ContainerSpec& spec, const std::vector<IdMapping>& uids,
                                                const std::vector<IdMapping>& gids);
// To be called as the host's root; `scratch` is a directory of a file system that is not mounted nodev.
void make_outside_devices(const Child& child, int scratch, std::vector<OutsideDevice>& devices);
void bind_devices(const Child& child, int root, const std::vector<OutsideDevice>& devices);

}  // namespace keelson
