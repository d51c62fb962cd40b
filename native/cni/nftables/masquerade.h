// Masquerading what leaves a pod's network: rules in nftables table `cni_plugins_masquerade`, laid out and commented as
// the field's plugins do since 1.6, so that either side deletes the other's.
#pragma once

#include <vector>

#include "cni/invocation.h"
#include "cni/ip_address.h"
#include "cni/plugin_error.h"

namespace keelson {

// Whether there may be rules, for DEL and GC: whatever `ipMasq` is by now.
bool may_masquerade(const Invocation& invocation);

// `addresses`: the pod's, with the length of its network.
Done add_masquerade(const Invocation& invocation, const std::vector<IpPrefix>& addresses);
// Also what the field's plugins made with iptables. Fine if there is nothing, or no nftables in the kernel.
Done remove_masquerade(const Invocation& invocation);
// Of the whole network, but for the valid attachments.
Done collect_masquerade(const Invocation& invocation);

}  // namespace keelson
