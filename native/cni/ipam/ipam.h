// Address management, inside of the plugin that asks for it: what `ipam` of a configuration says, by its type.
#pragma once

#include "cni/invocation.h"
#include "cni/network_result.h"
#include "cni/plugin_error.h"

namespace keelson {

// One kind of it; each function reads `ipam` of the invocation's configuration.
struct Ipam {
  const char* type;
  Outcome<NetworkResult> (*add)(const Invocation&);  // addresses, routes, DNS
  Done (*del)(const Invocation&);                    // fine if there is nothing
  Done (*check)(const Invocation&);
  Done (*status)(const Invocation&);
  Done (*gc)(const Invocation&);
};

// Null without a type. Any type that this program is not is refused, for it starts no other.
Outcome<const Ipam*> find_ipam(const Invocation& invocation);
// For DEL and GC. Null also for what an ADD has refused: it leased nothing. A result says that it was another program's.
Outcome<const Ipam*> find_ipam_of_leases(const Invocation& invocation);

}  // namespace keelson
