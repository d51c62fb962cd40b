// What the field's plugins leave in tables of iptables (its nf_tables variant, which nearly all machines have) when
// they made a pod's rules and this program takes the pod down: a chain of the pod's own in table `nat`, and jumps to
// it.
#pragma once

#include "cni/netlink/netlink.h"
#include "common/error.h"

namespace keelson {

// Deletes that chain and all jumps to it from `parent`. Of IPv4 and IPv6; fine if there is none.
Status delete_iptables_chain(NetlinkSocket& netlink, const char* parent, const char* chain);

}  // namespace keelson
