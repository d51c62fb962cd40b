// bridge: connects a pod's interface to a bridge of the host.
#pragma once

#include "cni/plugins/plugin.h"

namespace keelson {

extern const Plugin bridge_plugin;

}  // namespace keelson
