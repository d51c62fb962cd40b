// Masquerades packets that leave a pod's network: rules in the nftables table `cni_plugins_masquerade`, with the layout and
// comments of the reference CNI plugins since 1.6, so that each can delete the other's rules.
#pragma once

#include <vector>

#include "cni/invocation.h"
#include "cni/ip_address.h"
#include "cni/plugin_error.h"

namespace keelson {

// For DEL and GC: whether there may be rules. True also if `ipMasq` is invalid by now.
bool may_masquerade(const Invocation& invocation);

// `addresses`: the pod's, with the prefix length of its network.
Done add_masquerade(const Invocation& invocation, const std::vector<IpPrefix>& addresses);
// Also removes what the reference CNI plugins created with iptables. No error if there is nothing, or no nftables in the
// kernel.
Done remove_masquerade(const Invocation& invocation);
// Removes the rules of the whole network, except those of valid attachments.
Done collect_masquerade(const Invocation& invocation);

}  // namespace keelson
