// keelson-chain: others of these plugins, one after another in one process, as a runtime would have called each: all that
// one costs beyond the first is what it does. Its configuration has them as `plugins`, in the order of ADD, each as it would
// be called but for `prevResult`, which is the chain's own and then the one before's.
// Source: CNI spec 1.1.0, section 3, "Lifecycle & Ordering".
#pragma once

#include "cni/plugins/plugin.h"

namespace keelson {

extern const Plugin chain_plugin;

}  // namespace keelson
