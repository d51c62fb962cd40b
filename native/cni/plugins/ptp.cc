#include "cni/plugins/ptp.h"

#include "cni/config_object.h"
#include "cni/ipam/ipam.h"
#include "cni/netlink/addresses.h"
#include "cni/netlink/routes.h"
#include "cni/netlink/sysctl.h"
#include "cni/nftables/masquerade.h"
#include "cni/nftables/nftables.h"
#include "cni/plugins/container_namespace.h"
#include "cni/plugins/pod_interface.h"

namespace keelson {

namespace {

constexpr int64_t link_mtu_limit = 65535;
constexpr int64_t pod_interface_index = 1;  // in the result

struct PtpConfig {
  bool masquerade = false;
  int64_t mtu = 0;
  std::optional<DnsResult> dns;
  const Ipam* ipam = nullptr;  // never null after reading
};

Outcome<PtpConfig> read_ptp_config(const Invocation& invocation) {
  ConfigObject object(invocation.config, "");
  for (const char* key : {"cniVersion", "name", "type", "capabilities", "args", "runtimeConfig", "prevResult", "ipam",
                          "cni.dev/valid-attachments", "cni.dev/attachments"}) {
    object.member(key);
  }
  PtpConfig config;
  config.masquerade = TRY(object.boolean("ipMasq"));
  config.mtu = TRY(object.integer("mtu", 0, link_mtu_limit, 0));
  config.dns = TRY(parse_own_dns(object.member("dns")));
  config.ipam = TRY(find_ipam(invocation));
  if (!config.ipam) return misconfigured("ipam is missing: ptp needs addresses");
  std::string backend = TRY(object.text("ipMasqBackend"));
  TRY(require_nftables(backend, "ipMasqBackend"));
  TRY(object.refuse_others());
  return config;
}

IpPrefix whole(const IpAddress& address) { return {address, address.bits()}; }

// The kernel assumes that the whole subnet is on the link, but only the host is: routes the subnet through the host.
Done route_by_gateway(const Fd& container, const Link& link, const NetworkResult& result) {
  NetlinkSocket inside = TRY(open_netlink_inside(container));
  NetlinkBatch batch;
  for (const AddressResult& address : result.addresses) {
    IpPrefix subnet{network_of(address.address), address.address.length};
    delete_route(batch, link, subnet);
    add_link_route(batch, link, whole(address.gateway), address.address.address);
    add_gateway_route(batch, link, subnet, address.gateway, address.address.address);
  }
  TRY(inside.transact(batch));
  return {};
}

// Adds the gateway's address to the host's end, as for every pod, and the route to the pod.
Done connect_host(NetlinkSocket& host, const std::string& name, const NetworkResult& result) {
  std::optional<Link> link = TRY(find_link(host, name));
  if (!link) return refuse(ErrorCode::internal, "failed to lookup " + name);
  for (const AddressResult& address : result.addresses) {
    NetlinkBatch batch;
    add_address(batch, *link, whole(address.gateway), false);
    add_host_route(batch, *link, address.address.address);
    Status added = host.transact(batch);
    if (!added && added.error().error_number != EEXIST) return std::unexpected(added.error());
  }
  return {};
}

Done connect_ptp(const Invocation& invocation, const PtpConfig& config, const Fd& container, NetlinkSocket& host,
                 const PodInterface& pod, NetworkResult& result) {
  std::vector<IpPrefix> addresses;
  for (AddressResult& address : result.addresses) {
    if (!address.gateway) return misconfigured("ipam returned no gateway for " + to_string(address.address));
    address.interface = pod_interface_index;
    addresses.push_back(address.address);
    TRY(enable_forwarding(address.gateway.family));
  }
  if (addresses.empty()) return refuse(ErrorCode::internal, "IPAM plugin returned missing IP config");
  TRY(configure_pod_interface(container, pod.container, result, false));
  TRY(route_by_gateway(container, pod.container, result));
  TRY(connect_host(host, pod.host_name, result));
  if (config.masquerade) TRY(add_masquerade(invocation, addresses));
  return {};
}

Outcome<std::string> ptp_add(const Invocation& invocation) {
  PtpConfig config = TRY(read_ptp_config(invocation));
  Fd container = TRY(open_container_namespace(invocation));
  NetlinkSocket host = TRY(NetlinkSocket::open(NETLINK_ROUTE));
  PodInterface pod = TRY(make_pod_interface(invocation, container, host, config.mtu, 0, {}));
  std::optional<Link> host_link = TRY(find_link(host, pod.host_name));
  Outcome<NetworkResult> result = config.ipam->add(invocation);
  bool leased = result.has_value();
  Done connected =
      leased ? connect_ptp(invocation, config, container, host, pod, *result) : std::unexpected(result.error());
  if (connected) {
    result->interfaces = {InterfaceResult(pod.host_name, host_link ? host_link->mac : ""),
                          InterfaceResult(pod.container.name, pod.container.mac, invocation.netns)};
    if (config.dns) result->dns = *config.dns;
    return to_json(*result, invocation.version);
  }
  // What cannot be undone now is left to the DEL that follows a failed ADD.
  Status deleted = delete_veth(container, invocation.interface_name);
  if (deleted && leased) (void)config.ipam->del(invocation);
  if (leased && config.masquerade) (void)remove_masquerade(invocation);
  return std::unexpected(connected.error());
}

Done ptp_check(const Invocation& invocation) {
  PtpConfig config = TRY(read_ptp_config(invocation));
  Fd container = TRY(open_container_namespace(invocation));
  TRY(config.ipam->check(invocation));
  std::optional<NetworkResult> previous = TRY(parse_previous_result(invocation.part("prevResult")));
  if (!previous) return misconfigured("Required prevResult missing");
  TRY(check_pod_interface(invocation, container, *previous));
  return {};
}

Done ptp_status(const Invocation& invocation) {
  PtpConfig config = TRY(read_ptp_config(invocation));
  return config.ipam->status(invocation);
}

}  // namespace

const Plugin ptp_plugin{"ptp", ptp_add, remove_pod_interface, ptp_check, ptp_status, collect_pod_interfaces};

}  // namespace keelson
