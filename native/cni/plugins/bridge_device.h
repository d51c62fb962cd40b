// The bridge whose ports are the pods' interfaces. All pods share it, and none removes it.
#pragma once

#include <optional>

#include "cni/ip_address.h"
#include "cni/netlink/links.h"
#include "cni/plugin_error.h"
#include "cni/plugins/bridge_config.h"

namespace keelson {

// Creates the bridge if it does not exist, and sets it up.
Outcome<Link> ensure_bridge(NetlinkSocket& netlink, const BridgeConfig& config);

// Makes the bridge the pods' gateway, with that address. A conflicting address is an error, or is removed with `force`.
Done ensure_gateway_address(NetlinkSocket& netlink, const Link& bridge, const IpPrefix& gateway, bool force);

}  // namespace keelson
