// A pod's interface: a veth pair with one end in its namespace, with the addresses and routes from address management.
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

// Creates the pair, with a random name for the host's end; `mtu` and `master` may be 0, `mac` empty. The caller must delete
// it if a later step fails.
Outcome<PodInterface> make_pod_interface(const Invocation& invocation, const Fd& container, NetlinkSocket& host,
                                         int64_t mtu, int master, const std::string& mac);

// Adds the addresses, sets the interface up and adds the routes; those without a gateway use the first of their family.
Done configure_pod_interface(const Fd& container, const Link& link, const NetworkResult& result,
                             bool detect_duplicates);

// Announces the addresses to neighbours: their cache entries for an earlier pod with the same addresses may last for hours.
// Call it when the host's end carries packets; the kernel's own announcement when the interface comes up may be lost.
Done announce_pod_interface(const Fd& container, const Link& link);

// DEL for plugins with such an interface. If the namespace no longer exists, neither does the interface, but the lease and
// the rules are still removed.
Done remove_pod_interface(const Invocation& invocation);

// GC for such plugins: removes leases and rules of interfaces that are no longer valid.
Done collect_pod_interfaces(const Invocation& invocation);

// Checks that the interface is as in `result`: its kind, MAC address, addresses and routes.
Outcome<Link> check_pod_interface(const Invocation& invocation, const Fd& container, const NetworkResult& result);

}  // namespace keelson
