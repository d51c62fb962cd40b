// Ports of the host that lead to a pod: rules in nftables table `cni_hostport`, of IPv4 and of IPv6, laid out and
// commented as the field's portmap does with its backend nftables, so that either side deletes the other's. Two things are
// as with its backend iptables: the rules of services come first, and see `masquerade`. What no interface but lo may bring,
// packets to 127.0.0.0/8, is dropped, as the kubelet does where it has iptables.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cni/ip_address.h"
#include "cni/nftables/nft_rule.h"
#include "cni/plugin_error.h"

namespace keelson {

struct PortMapping {
  uint8_t protocol = 0;  // IPPROTO_*
  uint16_t host_port = 0;
  uint16_t container_port = 0;
  IpAddress host_address;  // none: every address of the host
};

// What else a packet must be like to be passed on.
struct AddressCondition {
  Side side = Side::source;
  IpPrefix prefix;
  bool equal = true;
};

struct HostPorts {
  std::string container_id;
  std::vector<PortMapping> mappings;
  std::vector<AddressCondition> conditions;  // of both families
  // A pod that speaks to its own port, others of its subnet, and the host by 127.0.0.1 hear the answer from where they
  // expect it: on a bridge an answer from pod to pod need not pass the host.
  bool masquerade = true;
  bool masquerade_all = false;
};

// What nft takes as a comment; a container's id has to fit.
constexpr size_t port_comment_limit = 128;

// `pod`: its address, with its subnet.
Done add_host_ports(const HostPorts& ports, const IpPrefix& pod);
// Fails if a rule of the pod is missing.
Done check_host_ports(const HostPorts& ports, const IpAddress& pod);
// Also what the field's portmap made with iptables. Fine if there is nothing.
Done remove_host_ports(const std::string& network, const std::string& container_id);

}  // namespace keelson
