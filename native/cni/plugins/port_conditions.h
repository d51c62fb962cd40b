// `conditionsV4` and `conditionsV6` of portmap: words of iptables or of nft, of which those about addresses are
// understood.
#pragma once

#include <string>
#include <vector>

#include "cni/nftables/host_ports.h"
#include "cni/plugin_error.h"

namespace keelson {

// "-s" or "-d" and a network, each with "!" before it for the opposite; or "ip" or "ip6", "saddr" or "daddr", "==" or
// "!=" if need be, and a network. Anything else is refused by name: a condition that is not kept opens a port to all.
Outcome<std::vector<AddressCondition>> parse_conditions(const std::vector<std::string>& words, const std::string& key);

}  // namespace keelson
