#include "cni/plugins/portmap.h"

#include <netinet/in.h>

#include <algorithm>
#include <cctype>
#include <optional>

#include "cni/config_object.h"
#include "cni/netlink/conntrack.h"
#include "cni/netlink/routes.h"
#include "cni/netlink/sysctl.h"
#include "cni/network_result.h"
#include "cni/nftables/host_ports.h"
#include "cni/nftables/nftables.h"
#include "cni/plugins/port_conditions.h"

namespace keelson {

namespace {

struct Protocol {
  const char* name;
  uint8_t number;
};
constexpr Protocol protocols[] = {{"tcp", IPPROTO_TCP}, {"udp", IPPROTO_UDP}, {"sctp", IPPROTO_SCTP}};

Outcome<uint8_t> read_protocol(ConfigObject& object) {
  std::string name = TRY(object.text("protocol"));
  std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::tolower(c); });
  auto known = std::ranges::find_if(protocols, [&](const Protocol& one) { return name == one.name; });
  if (known == std::end(protocols)) {
    return misconfigured(object.path_of("protocol") + " must be tcp, udp or sctp, not \"" + name + "\"");
  }
  return known->number;
}

Outcome<PortMapping> read_mapping(const Json& json) {
  ConfigObject object(json, "runtimeConfig.portMappings");
  PortMapping mapping;
  mapping.protocol = TRY(read_protocol(object));
  // 0, which is not a valid port, if it is missing.
  mapping.host_port = static_cast<uint16_t>(TRY(object.integer("hostPort", 1, 65535, 0)));
  mapping.container_port = static_cast<uint16_t>(TRY(object.integer("containerPort", 1, 65535, 0)));
  mapping.host_address = TRY(object.address("hostIP"));
  if (mapping.host_port == 0 || mapping.container_port == 0) {
    return misconfigured("runtimeConfig.portMappings: each needs hostPort and containerPort");
  }
  return mapping;
}

Outcome<HostPorts> read_portmap_config(const Invocation& invocation) {
  ConfigObject object(invocation.config, "");
  for (const char* key : {"cniVersion", "name", "type", "capabilities", "args", "prevResult", "dns", "runtimeConfig",
                          "cni.dev/valid-attachments", "cni.dev/attachments"}) {
    object.member(key);
  }
  HostPorts ports;
  ports.container_id = invocation.container_id;
  ports.masquerade = TRY(object.boolean("snat", true));
  ports.masquerade_all = TRY(object.boolean("masqAll"));
  // Ignored: nftables rules need no mark.
  TRY(object.integer("markMasqBit", 0, 31, 0));
  std::string backend = TRY(object.text("backend"));
  TRY(require_nftables(backend, "backend"));
  for (const char* key : {"conditionsV4", "conditionsV6"}) {
    std::vector<std::string> words = TRY(object.texts(key));
    for (const AddressCondition& one : TRY(parse_conditions(words, key))) ports.conditions.push_back(one);
  }
  ConfigObject runtime(invocation.part("runtimeConfig"), "runtimeConfig");
  for (const Json& item : *TRY(runtime.items("portMappings"))) ports.mappings.push_back(TRY(read_mapping(item)));
  TRY(object.refuse_others());
  if (ports.container_id.size() > port_comment_limit && !ports.mappings.empty()) {
    return refuse(ErrorCode::invalid_environment,
                  "CNI_CONTAINERID is longer than the 128 characters of a comment in nftables");
  }
  return ports;
}

// The first address of each family that does not belong to another interface.
std::vector<IpPrefix> pod_addresses(const Invocation& invocation, const NetworkResult& result) {
  std::vector<IpPrefix> addresses;
  for (const AddressResult& one : result.addresses) {
    auto same_family = [&](const IpPrefix& other) { return other.address.family == one.address.address.family; };
    if (std::ranges::any_of(addresses, same_family)) continue;
    auto count = static_cast<int64_t>(result.interfaces.size());
    if (one.interface && *one.interface >= 0 && *one.interface < count) {
      const InterfaceResult& interface = result.interfaces[static_cast<size_t>(*one.interface)];
      if (interface.name != invocation.interface_name || interface.sandbox.empty()) continue;
    }
    addresses.push_back(one.address);
  }
  return addresses;
}

// Lets packets from the host's 127.0.0.1 leave through the interface that leads to the pod.
Status let_localhost_out(const IpAddress& pod) {
  NetlinkSocket netlink = TRY(NetlinkSocket::open(NETLINK_ROUTE));
  std::optional<int> index = TRY(interface_towards(netlink, pod));
  if (!index) return {};
  std::optional<Link> link = TRY(find_link(netlink, *index));
  return link ? set_sysctl("net/ipv4/conf/" + link->name + "/route_localnet", "1") : Status();
}

std::vector<uint16_t> udp_ports(const HostPorts& ports) {
  std::vector<uint16_t> numbers;
  for (const PortMapping& mapping : ports.mappings) {
    if (mapping.protocol == IPPROTO_UDP) numbers.push_back(mapping.host_port);
  }
  return numbers;
}

Outcome<std::string> portmap_add(const Invocation& invocation) {
  HostPorts ports = TRY(read_portmap_config(invocation));
  std::optional<NetworkResult> previous = TRY(parse_previous_result(invocation.part("prevResult")));
  if (!previous) return misconfigured("must be called as chained plugin");
  if (ports.mappings.empty()) return to_json(*previous, invocation.version);
  for (const IpPrefix& prefix : pod_addresses(invocation, *previous)) {
    const IpAddress& pod = prefix.address;
    TRY(add_host_ports(ports, prefix));
    // After the rules are added, so that packets sent in the meantime match them. If this fails, old flows expire
    // eventually.
    (void)forget_udp_flows(pod.family, udp_ports(ports));
    if (pod.is_v4() && ports.masquerade) TRY(let_localhost_out(pod));
  }
  return to_json(*previous, invocation.version);
}

Done portmap_del(const Invocation& invocation) {
  TRY(remove_host_ports(invocation.network, invocation.container_id));
  // A flow that a client keeps alive would still go to the pod's address, which another pod may get soon.
  if (const Outcome<HostPorts> ports = read_portmap_config(invocation)) {
    for (int family : {AF_INET, AF_INET6}) (void)forget_udp_flows(family, udp_ports(*ports));
  }
  return {};
}

Done portmap_check(const Invocation& invocation) {
  HostPorts ports = TRY(read_portmap_config(invocation));
  std::optional<NetworkResult> previous = TRY(parse_previous_result(invocation.part("prevResult")));
  if (!previous) return misconfigured("Required prevResult missing");
  if (ports.mappings.empty()) return {};
  for (const IpPrefix& pod : pod_addresses(invocation, *previous)) TRY(check_host_ports(ports, pod.address));
  return {};
}

Done portmap_status(const Invocation& invocation) {
  TRY(read_portmap_config(invocation));
  return {};
}

// Rules record their container but not their network, so a stale one cannot be identified.
Done portmap_gc(const Invocation&) { return {}; }

}  // namespace

const Plugin portmap_plugin{"portmap", portmap_add, portmap_del, portmap_check, portmap_status, portmap_gc};

}  // namespace keelson
