// Removes iptables rules (of its nf_tables variant, which nearly all machines have) of a pod that the reference CNI plugins
// added and this program deletes: a chain for the pod in table `nat`, and jumps to it.
#pragma once

#include "cni/netlink/netlink.h"
#include "common/error.h"

namespace keelson {

// Deletes the chain and all jumps to it from `parent`, for IPv4 and IPv6. No error if there is none.
Status delete_iptables_chain(NetlinkSocket& netlink, const char* parent, const char* chain);

}  // namespace keelson
