// Host ports: rules in the nftables table `cni_hostport`, for IPv4 and for IPv6, with the layout and comments of the
// reference portmap's nftables backend, so that each can delete the other's rules. Two things are as in its iptables
// backend: the rules of services come first, and `masquerade` (below). Packets to 127.0.0.0/8 from interfaces other than lo
// are dropped, as the kubelet does with iptables.
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
  IpAddress host_address;  // no address: every address of the host
};

// An additional condition for packets to a host port.
struct AddressCondition {
  Side side = Side::source;
  IpPrefix prefix;
  bool equal = true;
};

struct HostPorts {
  std::string container_id;
  std::vector<PortMapping> mappings;
  std::vector<AddressCondition> conditions;  // of both families
  // Masquerades connections from the pod itself, from its subnet and from the host's 127.0.0.1, so that they see replies
  // from the address that they connected to: replies between pods of one bridge need not pass through the host.
  bool masquerade = true;
  bool masquerade_all = false;
};

// The maximum length of a comment in nft; a container's id must fit.
constexpr size_t port_comment_limit = 128;

// `pod`: the pod's address with the prefix length of its subnet.
Done add_host_ports(const HostPorts& ports, const IpPrefix& pod);
// Fails if any rule of the pod is missing.
Done check_host_ports(const HostPorts& ports, const IpAddress& pod);
// Also removes what the reference portmap created with iptables. No error if there is nothing.
Done remove_host_ports(const std::string& network, const std::string& container_id);

}  // namespace keelson
