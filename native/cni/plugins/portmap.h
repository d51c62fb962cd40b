// portmap: ports of the host that lead to the pod that plugins before this one have connected.
#pragma once

#include "cni/plugins/plugin.h"

namespace keelson {

extern const Plugin portmap_plugin;

}  // namespace keelson
