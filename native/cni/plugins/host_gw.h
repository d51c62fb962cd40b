// host-gw: adds routes on the host to the pods of other nodes, via those nodes' own addresses, for nodes that share a
// network. There is no reference plugin for this; it works like the host-gw mode of other network solutions.
#pragma once

#include "cni/plugins/plugin.h"

namespace keelson {

extern const Plugin host_gw_plugin;

}  // namespace keelson
