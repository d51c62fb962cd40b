// bridge: a pod's interface on a bridge of the host.
#pragma once

#include "cni/plugins/plugin.h"

namespace keelson {

extern const Plugin bridge_plugin;

}  // namespace keelson
