// Address management (a configuration's `ipam`), by type. It runs inside the plugin that uses it.
#pragma once

#include "cni/invocation.h"
#include "cni/network_result.h"
#include "cni/plugin_error.h"

namespace keelson {

// One type of address management. Each function reads `ipam` of the invocation's configuration.
struct Ipam {
  const char* type;
  Outcome<NetworkResult> (*add)(const Invocation&);  // addresses, routes, DNS
  Done (*del)(const Invocation&);                    // no error if there is nothing
  Done (*check)(const Invocation&);
  Done (*status)(const Invocation&);
  Done (*gc)(const Invocation&);
};

// Null if there is no type. Refuses types that this program does not implement, as it runs no other programs.
Outcome<const Ipam*> find_ipam(const Invocation& invocation);
// For DEL and GC. Null also for an unsupported type: ADD refused it and leased nothing. With a `prevResult`, another program
// must have done the ADD; then the type is refused.
Outcome<const Ipam*> find_ipam_of_leases(const Invocation& invocation);

}  // namespace keelson
