// static: exactly the addresses that the configuration or the runtime specifies. Nothing is recorded.
#pragma once

#include "cni/ipam/ipam.h"
#include "cni/plugins/plugin.h"

namespace keelson {

extern const Ipam static_ipam;
extern const Plugin static_plugin;

}  // namespace keelson
