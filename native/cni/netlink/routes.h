// Routes.
#pragma once

#include <optional>

#include "cni/netlink/links.h"
#include "cni/netlink/netlink.h"
#include "cni/network_result.h"

namespace keelson {

// A route through the link, via the route's gateway if it has one. An identical existing route is an error.
void add_route(NetlinkBatch& batch, const Link& link, const RouteResult& route);
// A route to a destination on the link itself, with the source address to use.
void add_link_route(NetlinkBatch& batch, const Link& link, const IpPrefix& destination, const IpAddress& source);
void add_gateway_route(NetlinkBatch& batch, const Link& link, const IpPrefix& destination, const IpAddress& gateway,
                       const IpAddress& source);
// A route with host scope: to a pod of this machine behind the link.
void add_host_route(NetlinkBatch& batch, const Link& link, const IpAddress& destination);
void delete_route(NetlinkBatch& batch, const Link& link, const IpPrefix& destination);

// A route of the host via the route's gateway. Replaces another route to the same destination.
void replace_route(NetlinkBatch& batch, const RouteResult& route);

// Whether the main table has the route; if it has no gateway, with any gateway.
Result<bool> has_route(NetlinkSocket& netlink, const RouteResult& route);
// The index of the interface through which packets to the address leave; nothing if there is no route.
Result<std::optional<int>> interface_towards(NetlinkSocket& netlink, const IpAddress& destination);

}  // namespace keelson
