// loopback: sets `lo` of the container up.
#pragma once

#include "cni/plugins/plugin.h"

namespace keelson {

extern const Plugin loopback_plugin;

}  // namespace keelson
