// Routes.
#pragma once

#include <optional>

#include "cni/netlink/links.h"
#include "cni/netlink/netlink.h"
#include "cni/network_result.h"

namespace keelson {

// Through the link, by the route's gateway if it has one. One that is there already is an error.
void add_route(NetlinkBatch& batch, const Link& link, const RouteResult& route);
// On the link itself, with the address to speak from.
void add_link_route(NetlinkBatch& batch, const Link& link, const IpPrefix& destination, const IpAddress& source);
void add_gateway_route(NetlinkBatch& batch, const Link& link, const IpPrefix& destination, const IpAddress& gateway,
                       const IpAddress& source);
// To something that is this machine's own business: a pod behind the link.
void add_host_route(NetlinkBatch& batch, const Link& link, const IpAddress& destination);
void delete_route(NetlinkBatch& batch, const Link& link, const IpPrefix& destination);

// Of the host, by the route's gateway; in the place of another to the same destination.
void replace_route(NetlinkBatch& batch, const RouteResult& route);

// Whether the main table has it; without a gateway, whichever way it goes.
Result<bool> has_route(NetlinkSocket& netlink, const RouteResult& route);
// Index of the interface that packets to the address leave by; nothing if none does.
Result<std::optional<int>> interface_towards(NetlinkSocket& netlink, const IpAddress& destination);

}  // namespace keelson
