// host-local: allocates addresses from ranges and records them on this machine. A plugin of its own, and the `ipam` of
// others.
#pragma once

#include "cni/ipam/ipam.h"
#include "cni/plugins/plugin.h"

namespace keelson {

extern const Ipam host_local_ipam;
extern const Plugin host_local_plugin;

}  // namespace keelson
