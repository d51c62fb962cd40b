// host-gw: routes of the host to the pods of other nodes, by those nodes' own addresses, for nodes that share a
// network. The field has no plugin for it; what it calls host-gw does this.
#pragma once

#include "cni/plugins/plugin.h"

namespace keelson {

extern const Plugin host_gw_plugin;

}  // namespace keelson
