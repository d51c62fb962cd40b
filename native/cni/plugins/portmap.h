// portmap: maps host ports to the pod that earlier plugins of the chain have connected.
#pragma once

#include "cni/plugins/plugin.h"

namespace keelson {

extern const Plugin portmap_plugin;

}  // namespace keelson
