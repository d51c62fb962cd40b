// keelson-chain: runs other plugins of this program one after another in one process, as a runtime would call them, without
// the startup time of a process for each. In its configuration, `plugins` are their configurations, in the order of ADD,
// each as if called directly except for `prevResult`: the first gets the chain's, each later one the previous plugin's
// result.
//
// Source: CNI spec 1.1.0, section 3, "Lifecycle & Ordering".
#pragma once

#include "cni/plugins/plugin.h"

namespace keelson {

extern const Plugin chain_plugin;

}  // namespace keelson
