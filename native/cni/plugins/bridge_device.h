// The bridge that pods' interfaces are ports of, which all of them share and none of them takes down.
#pragma once

#include <optional>

#include "cni/ip_address.h"
#include "cni/netlink/links.h"
#include "cni/plugin_error.h"
#include "cni/plugins/bridge_config.h"

namespace keelson {

// Makes the bridge if there is none, and sets it up.
Outcome<Link> ensure_bridge(NetlinkSocket& netlink, const BridgeConfig& config);

// Has the bridge be the pods' gateway, with that address. Another address in its place is an error, or with `force`
// removed.
Done ensure_gateway_address(NetlinkSocket& netlink, const Link& bridge, const IpPrefix& gateway, bool force);

}  // namespace keelson
