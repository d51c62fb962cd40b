#include "cni/plugins/pod_interface.h"

#include <linux/rtnetlink.h>
#include <sys/random.h>

#include <algorithm>
#include <cstdio>
#include <optional>

#include "cni/ipam/ipam.h"
#include "cni/netlink/addresses.h"
#include "cni/netlink/routes.h"
#include "cni/netlink/sysctl.h"
#include "cni/nftables/masquerade.h"
#include "cni/plugins/container_namespace.h"

namespace keelson {

namespace {

constexpr int names_to_try = 10;
constexpr int settle_limit_ms = 5'000;

Result<std::string> random_veth_name() {
  uint32_t number = 0;
  if (getrandom(&number, sizeof number, 0) != sizeof number) return fail_errno("generate a random name");
  char name[16];
  snprintf(name, sizeof name, "veth%08x", number);
  return std::string(name);
}

// Sysctls that must be set before the interface is up.
Status prepare_settings(const std::string& name, bool with_v6, bool detect_duplicates) {
  std::string v6 = "net/ipv6/conf/" + name;
  if (detect_duplicates) try_sysctl(v6 + "/enhanced_dad", "1");
  try_sysctl(v6 + "/accept_dad", detect_duplicates ? "1" : "0");
  // Neighbours learn at once that the addresses have moved.
  try_sysctl("net/ipv4/conf/" + name + "/arp_notify", "1");
  try_sysctl(v6 + "/ndisc_notify", "1");
  if (!with_v6) return {};
  TRY(set_sysctl("net/ipv6/conf/lo/disable_ipv6", "0"));
  TRY(set_sysctl(v6 + "/disable_ipv6", "0"));
  TRY(set_sysctl(v6 + "/keep_addr_on_down", "1"));
  return {};
}

IpAddress gateway_of(const NetworkResult& result, int family) {
  for (const AddressResult& address : result.addresses) {
    if (address.gateway.family == family) return address.gateway;
  }
  return {};
}

void add_routes(NetlinkBatch& batch, const Link& link, const NetworkResult& result) {
  for (RouteResult route : result.routes) {
    if (!route.gateway) route.gateway = gateway_of(result, route.destination.address.family);
    add_route(batch, link, route);
  }
}

bool is_v6(const AddressResult& address) { return !address.address.address.is_v4(); }

}  // namespace

Outcome<PodInterface> make_pod_interface(const Invocation& invocation, const Fd& container, NetlinkSocket& host,
                                         int64_t mtu, int master, const std::string& mac) {
  if (!mac.empty() && !is_mac(mac)) return misconfigured("invalid MAC address " + mac);
  const std::string& name = invocation.interface_name;
  NetlinkSocket inside = TRY(open_netlink_inside(container));
  for (int attempt = 0; attempt < names_to_try; ++attempt) {
    std::string host_name = TRY(random_veth_name());
    NetlinkBatch batch;
    add_veth(batch,
             {.host_name = host_name, .container_name = name, .container_mac = mac, .mtu = mtu, .master = master},
             container);
    Status made = host.transact(batch);
    std::optional<Link> link = TRY(find_link(inside, name));
    if (made && link) {
      // Only the plugin sets the routes of this interface.
      try_sysctl("net/ipv6/conf/" + host_name + "/accept_ra", "0");
      return PodInterface{std::move(*link), std::move(host_name)};
    }
    if (made) return refuse(ErrorCode::internal, "find " + name + ": it was created but no longer exists");
    if (made.error().error_number != EEXIST) return std::unexpected(made.error());
    if (link) return refuse(ErrorCode::internal, "container veth name (\"" + name + "\") already exists");
  }
  return refuse(ErrorCode::internal, "failed to find a unique veth name");
}

Done configure_pod_interface(const Fd& container, const Link& link, const NetworkResult& result,
                             bool detect_duplicates) {
  InsideNamespace inside = TRY(InsideNamespace::enter(container));
  NetlinkSocket netlink = TRY(NetlinkSocket::open(NETLINK_ROUTE));
  bool with_v6 = std::ranges::any_of(result.addresses, is_v6);
  TRY(prepare_settings(link.name, with_v6, detect_duplicates));
  NetlinkBatch batch;
  for (const AddressResult& address : result.addresses) add_address(batch, link, address.address, detect_duplicates);
  set_link_up(batch, link);
  if (!with_v6 || !detect_duplicates) {
    add_routes(batch, link, result);
    TRY(netlink.transact(batch));
    return {};
  }
  // A route with an address that is still tentative would be refused.
  NetlinkSocket events = TRY(NetlinkSocket::open(NETLINK_ROUTE));
  TRY(events.subscribe(RTNLGRP_IPV6_IFADDR));
  TRY(netlink.transact(batch));
  TRY(settle_addresses(netlink, events, link, settle_limit_ms));
  NetlinkBatch routes;
  add_routes(routes, link, result);
  TRY(netlink.transact(routes));
  return {};
}

Done announce_pod_interface(const Fd& container, const Link& link) {
  NetlinkSocket inside = TRY(open_netlink_inside(container));
  NetlinkBatch batch;
  // With the sysctls above, the kernel announces the addresses whenever the MAC address is set, even to the same value.
  pin_link_mac(batch, link);
  TRY(inside.transact(batch));
  return {};
}

Done remove_pod_interface(const Invocation& invocation) {
  const Ipam* ipam = TRY(find_ipam_of_leases(invocation));
  std::optional<Fd> container = TRY(open_remaining_namespace(invocation));
  if (container) TRY(delete_veth(*container, invocation.interface_name));
  // Only now may another pod get the address.
  if (ipam) TRY(ipam->del(invocation));
  if (ipam && may_masquerade(invocation)) TRY(remove_masquerade(invocation));
  return {};
}

Done collect_pod_interfaces(const Invocation& invocation) {
  const Ipam* ipam = TRY(find_ipam_of_leases(invocation));
  if (ipam) TRY(ipam->gc(invocation));
  if (may_masquerade(invocation)) TRY(collect_masquerade(invocation));
  return {};
}

Outcome<Link> check_pod_interface(const Invocation& invocation, const Fd& container, const NetworkResult& result) {
  auto is_pods = [&](const InterfaceResult& one) {
    return one.name == invocation.interface_name && one.sandbox == invocation.netns;
  };
  auto recorded = std::ranges::find_if(result.interfaces, is_pods);
  if (recorded == result.interfaces.end()) {
    return misconfigured("prevResult has no interface " + invocation.interface_name + " in " + invocation.netns);
  }
  NetlinkSocket netlink = TRY(open_netlink_inside(container));
  std::optional<Link> link = TRY(find_link(netlink, invocation.interface_name));
  if (!link) return refuse(ErrorCode::internal, "Interface name " + invocation.interface_name + " not found");
  if (link->kind != "veth") {
    return refuse(ErrorCode::internal, "Container interface " + link->name + " not of type veth");
  }
  if (!recorded->mac.empty() && recorded->mac != link->mac) {
    return refuse(ErrorCode::internal,
                  "Interface " + link->name + " Mac " + recorded->mac + " doesn't match container Mac: " + link->mac);
  }
  std::vector<InterfaceAddress> found = TRY(list_addresses(netlink, *link, AF_UNSPEC));
  for (const AddressResult& address : result.addresses) {
    if (std::ranges::find(found, address.address, &InterfaceAddress::prefix) != found.end()) continue;
    return refuse(ErrorCode::internal,
                  "Failed to match addr " + to_string(address.address) + " on interface " + link->name);
  }
  for (const RouteResult& route : result.routes) {
    if (TRY(has_route(netlink, route))) continue;
    return refuse(ErrorCode::internal,
                  "Expected Route " + to_string(route.destination) + " not found in routing table");
  }
  return std::move(*link);
}

}  // namespace keelson
