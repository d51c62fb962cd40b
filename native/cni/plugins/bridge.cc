#include "cni/plugins/bridge.h"

#include <linux/if.h>
#include <linux/rtnetlink.h>

#include <algorithm>

#include "cni/ipam/ipam.h"
#include "cni/netlink/sysctl.h"
#include "cni/nftables/masquerade.h"
#include "cni/plugins/bridge_config.h"
#include "cni/plugins/bridge_device.h"
#include "cni/plugins/container_namespace.h"
#include "cni/plugins/pod_interface.h"

namespace keelson {

namespace {

constexpr int port_limit_ms = 2'500;
constexpr int64_t container_interface = 2;  // in the result

IpAddress first_host(const IpPrefix& prefix) { return next(network_of(prefix)); }

// Sets the gateway of each address and, if the bridge is the default gateway, adds a default route for each family, through
// the gateway of its first address.
void complete(NetworkResult& result, const BridgeConfig& config) {
  for (AddressResult& address : result.addresses) {
    address.interface = container_interface;
    if (!address.gateway && config.is_gateway) address.gateway = first_host(address.address);
    IpPrefix everywhere = default_destination(address.address.address.family);
    bool has_default = std::ranges::any_of(
        result.routes, [&](const RouteResult& route) { return route.gateway && route.destination == everywhere; });
    if (!config.is_default_gateway || has_default) continue;
    RouteResult route;
    route.destination = everywhere;
    route.gateway = address.gateway;
    result.routes.push_back(route);
  }
}

Done become_gateway(NetlinkSocket& host, const Link& bridge, const NetworkResult& result, const BridgeConfig& config) {
  for (const AddressResult& address : result.addresses) {
    TRY(ensure_gateway_address(host, bridge, {address.gateway, address.address.length}, config.force_address));
    TRY(enable_forwarding(address.gateway.family));
  }
  return {};
}

// Layer 3: configures the interface's addresses, and their gateway on the bridge.
Done connect(const Invocation& invocation, const BridgeConfig& config, const Fd& container, NetlinkSocket& host,
             const Link& bridge, const PodInterface& pod, NetworkResult given, NetworkResult& result) {
  if (given.addresses.empty()) return refuse(ErrorCode::internal, "IPAM plugin returned missing IP config");
  result.addresses = std::move(given.addresses);
  result.routes = std::move(given.routes);
  result.dns = std::move(given.dns);
  complete(result, config);
  TRY(configure_pod_interface(container, pod.container, result, config.detect_duplicates));
  if (config.is_gateway) TRY(become_gateway(host, bridge, result, config));
  if (!config.masquerade) return {};
  std::vector<IpPrefix> addresses;
  for (const AddressResult& address : result.addresses) addresses.push_back(address.address);
  return add_masquerade(invocation, addresses);
}

Done connect_without_addresses(const BridgeConfig& config, const Fd& container, const PodInterface& pod) {
  if (config.no_container_interface) return {};
  NetlinkSocket inside = TRY(open_netlink_inside(container));
  NetlinkBatch batch;
  set_link_up(batch, pod.container);
  TRY(inside.transact(batch));
  return {};
}

// Completes the result with the host's side: waits until the port carries packets, and reads MAC addresses.
Done describe_host(NetlinkSocket& host, NetlinkSocket& events, const BridgeConfig& config, const PodInterface& pod,
                   NetworkResult& result) {
  int limit = config.no_container_interface ? 0 : port_limit_ms;
  Link port = TRY(await_operational(host, events, pod.host_name, limit));
  if (port.operational_state != IF_OPER_UP && !config.no_container_interface) {
    return refuse(ErrorCode::internal, "bridge port in error state: " + pod.host_name + " does not come up");
  }
  std::optional<Link> bridge = TRY(find_link(host, config.bridge));
  if (!bridge) return refuse(ErrorCode::internal, "could not lookup \"" + config.bridge + "\"");
  result.interfaces[0].mac = bridge->mac;
  result.interfaces[1].mac = port.mac;
  return {};
}

// Sets `leased` once addresses are leased, which must be released if this fails.
Outcome<NetworkResult> attach(const Invocation& invocation, const BridgeConfig& config, const Fd& container,
                              const Ipam* ipam, NetlinkSocket& host, const Link& bridge, const PodInterface& pod,
                              bool& leased) {
  NetlinkSocket events = TRY(NetlinkSocket::open(NETLINK_ROUTE));
  TRY(events.subscribe(RTNLGRP_LINK));
  if (config.hairpin || config.isolated) {
    NetlinkBatch batch;
    set_port_options(batch, pod.host_name, config.hairpin, config.isolated);
    TRY(host.transact(batch));
  }
  NetworkResult result;
  result.interfaces = {InterfaceResult(config.bridge), InterfaceResult(pod.host_name),
                       InterfaceResult(pod.container.name, pod.container.mac, invocation.netns)};
  if (ipam) {
    NetworkResult given = TRY(ipam->add(invocation));
    leased = true;
    TRY(connect(invocation, config, container, host, bridge, pod, std::move(given), result));
  } else {
    TRY(connect_without_addresses(config, container, pod));
  }
  TRY(describe_host(host, events, config, pod, result));
  if (ipam) TRY(announce_pod_interface(container, pod.container));
  if (config.dns) result.dns = *config.dns;
  return result;
}

Outcome<std::string> bridge_add(const Invocation& invocation) {
  BridgeConfig config = TRY(read_bridge_config(invocation));
  const Ipam* ipam = TRY(find_ipam(invocation));
  Fd container = TRY(open_container_namespace(invocation));
  NetlinkSocket host = TRY(NetlinkSocket::open(NETLINK_ROUTE));
  Link bridge = TRY(ensure_bridge(host, config));
  PodInterface pod = TRY(make_pod_interface(invocation, container, host, config.mtu, bridge.index, config.mac));
  bool leased = false;
  Outcome<NetworkResult> result = attach(invocation, config, container, ipam, host, bridge, pod, leased);
  if (result) return to_json(*result, invocation.version);
  // What cannot be undone now is left to the DEL that follows a failed ADD.
  Status deleted = delete_veth(container, invocation.interface_name);
  if (deleted && leased) (void)ipam->del(invocation);
  if (leased && config.masquerade) (void)remove_masquerade(invocation);
  return std::unexpected(result.error());
}

// A port of the bridge whose other end is the container's interface.
bool is_port_of_pod(const Link& port, const Link& bridge, const Link& container) {
  return port.kind == "veth" && port.master == bridge.index && port.index == container.peer &&
         port.peer == container.index;
}

Done check_port(NetlinkSocket& host, const NetworkResult& result, const Link& bridge, const Link& container) {
  for (const InterfaceResult& interface : result.interfaces) {
    if (!interface.sandbox.empty() || interface.name == bridge.name) continue;
    std::optional<Link> port = TRY(find_link(host, interface.name));
    if (!port) return refuse(ErrorCode::internal, "Interface name " + interface.name + " not found");
    if (!is_port_of_pod(*port, bridge, container)) continue;
    if (interface.mac.empty() || interface.mac == port->mac) return {};
    return refuse(ErrorCode::internal,
                  "Interface " + interface.name + " Mac doesn't match: " + interface.mac + " not found");
  }
  return refuse(ErrorCode::internal, "CNI veth created for bridge " + bridge.name + " was not found");
}

Done bridge_check(const Invocation& invocation) {
  BridgeConfig config = TRY(read_bridge_config(invocation));
  const Ipam* ipam = TRY(find_ipam(invocation));
  Fd container = TRY(open_container_namespace(invocation));
  if (ipam) TRY(ipam->check(invocation));
  std::optional<NetworkResult> previous = TRY(parse_previous_result(invocation.part("prevResult")));
  if (!previous) return misconfigured("Required prevResult missing");
  NetlinkSocket host = TRY(NetlinkSocket::open(NETLINK_ROUTE));
  std::optional<Link> bridge = TRY(find_link(host, config.bridge));
  if (!bridge || bridge->kind != "bridge") {
    return refuse(ErrorCode::internal, "CNI created bridge " + config.bridge + " in host namespace was not found");
  }
  auto recorded = std::ranges::find(previous->interfaces, config.bridge, &InterfaceResult::name);
  if (recorded != previous->interfaces.end() && !recorded->mac.empty() && recorded->mac != bridge->mac) {
    return refuse(ErrorCode::internal, "Bridge interface " + config.bridge + " Mac doesn't match: " + recorded->mac);
  }
  if (config.promiscuous != (bridge->promiscuity != 0)) {
    return refuse(ErrorCode::internal,
                  "Bridge interface " + config.bridge + " configured Promisc Mode doesn't match current state");
  }
  Link link = TRY(check_pod_interface(invocation, container, *previous));
  return check_port(host, *previous, *bridge, link);
}

Done bridge_status(const Invocation& invocation) {
  TRY(read_bridge_config(invocation));
  const Ipam* ipam = TRY(find_ipam(invocation));
  if (ipam) TRY(ipam->status(invocation));
  return {};
}

}  // namespace

const Plugin bridge_plugin{
    "bridge", bridge_add, remove_pod_interface, bridge_check, bridge_status, collect_pod_interfaces,
};

}  // namespace keelson
