// ptp: a pod's interface with nothing but the host at its other end.
#pragma once

#include "cni/plugins/plugin.h"

namespace keelson {

extern const Plugin ptp_plugin;

}  // namespace keelson
