// Parses `conditionsV4` and `conditionsV6` of portmap: iptables or nft syntax, of which only address matches are supported.
#pragma once

#include <string>
#include <vector>

#include "cni/nftables/host_ports.h"
#include "cni/plugin_error.h"

namespace keelson {

// "-s" or "-d" and a network, with "!" before it for the negation; or "ip" or "ip6", "saddr" or "daddr", optionally "==" or
// "!=", and a network. Anything else is refused by name: a condition that is ignored would open a port to everybody.
Outcome<std::vector<AddressCondition>> parse_conditions(const std::vector<std::string>& words, const std::string& key);

}  // namespace keelson
