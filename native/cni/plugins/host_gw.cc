#include "cni/plugins/host_gw.h"

#include "cni/config_object.h"
#include "cni/netlink/routes.h"
#include "cni/netlink/sysctl.h"

namespace keelson {

namespace {

Outcome<std::vector<RouteResult>> read_host_gw_config(const Invocation& invocation) {
  ConfigObject object(invocation.config, "");
  for (const char* key : {"cniVersion", "name", "type", "capabilities", "args", "runtimeConfig", "prevResult"}) {
    object.member(key);
  }
  std::vector<RouteResult> routes = TRY(parse_routes(object.member("routes"), "routes"));
  for (const RouteResult& route : routes) {
    if (!route.gateway) {
      return misconfigured("routes: " + to_string(route.destination) + " has no gw, the address of its node");
    }
    bool plain = route.mtu == 0 && route.advertised_mss == 0 && route.priority == 0 && !route.table && !route.scope;
    if (!plain) return unsupported("routes: this plugin supports only dst and gw");
  }
  TRY(object.refuse_others());
  return routes;
}

Outcome<std::string> host_gw_add(const Invocation& invocation) {
  std::vector<RouteResult> routes = TRY(read_host_gw_config(invocation));
  std::optional<NetworkResult> previous = TRY(parse_previous_result(invocation.part("prevResult")));
  if (!previous) return misconfigured("must be called as chained plugin");
  NetlinkSocket netlink = TRY(NetlinkSocket::open(NETLINK_ROUTE));
  NetlinkBatch batch;
  for (const RouteResult& route : routes) {
    TRY(enable_forwarding(route.destination.address.family));
    if (!TRY(has_route(netlink, route))) replace_route(batch, route);
  }
  TRY(netlink.transact(batch));
  return to_json(*previous, invocation.version);
}

Done host_gw_check(const Invocation& invocation) {
  std::vector<RouteResult> routes = TRY(read_host_gw_config(invocation));
  NetlinkSocket netlink = TRY(NetlinkSocket::open(NETLINK_ROUTE));
  for (const RouteResult& route : routes) {
    if (TRY(has_route(netlink, route))) continue;
    return refuse(ErrorCode::internal,
                  "no route to " + to_string(route.destination) + " via " + to_string(route.gateway));
  }
  return {};
}

Done host_gw_status(const Invocation& invocation) {
  TRY(read_host_gw_config(invocation));
  return {};
}

// The routes belong to the node, as the bridge does: remaining pods use them.
Done host_gw_keep(const Invocation&) { return {}; }

}  // namespace

const Plugin host_gw_plugin{"host-gw", host_gw_add, host_gw_keep, host_gw_check, host_gw_status, host_gw_keep};

}  // namespace keelson
