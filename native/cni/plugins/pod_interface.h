// A pod's interface: a veth pair with one end in its namespace, and what address management gave for it.
#pragma once

#include <string>

#include "cni/invocation.h"
#include "cni/netlink/links.h"
#include "cni/netlink/network_namespace.h"
#include "cni/network_result.h"
#include "cni/plugin_error.h"

namespace keelson {

struct PodInterface {
  Link container;
  std::string host_name;
};

// Makes the pair, the host's end under a name of its own; `mtu`, `master` and `mac` may be 0 and empty. Whoever fails
// later has to delete it.
Outcome<PodInterface> make_pod_interface(const Invocation& invocation, const Fd& container, NetlinkSocket& host,
                                         int64_t mtu, int master, const std::string& mac);

// Adds the addresses, sets the interface up, adds the routes: those without a gateway go by the first of their family.
Done configure_pod_interface(const Fd& container, const Link& link, const NetworkResult& result,
                             bool detect_duplicates);

// Tells neighbours whose the addresses are now: what they know of a pod that had them before may hold for hours. For when the
// host's end carries packets; what the kernel tells as the interface comes up may be lost.
Done announce_pod_interface(const Fd& container, const Link& link);

// DEL of a plugin whose interface it is. Also where the namespace is gone, and with it the interface: the lease and the rules
// remain.
Done remove_pod_interface(const Invocation& invocation);

// GC of such a plugin: leases and rules of interfaces that are none any more.
Done collect_pod_interfaces(const Invocation& invocation);

// Whether the interface is there as `result` has it: the kind, the MAC address, addresses and routes.
Outcome<Link> check_pod_interface(const Invocation& invocation, const Fd& container, const NetworkResult& result);

}  // namespace keelson
