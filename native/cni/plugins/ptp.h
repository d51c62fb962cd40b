// ptp: connects a pod's interface directly to the host, without a bridge.
#pragma once

#include "cni/plugins/plugin.h"

namespace keelson {

extern const Plugin ptp_plugin;

}  // namespace keelson
