// loopback: brings up the container's `lo`.
#pragma once

#include "cni/plugins/plugin.h"

namespace keelson {

extern const Plugin loopback_plugin;

}  // namespace keelson
