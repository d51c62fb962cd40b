#include "cni/ipam/ipam.h"

#include "cni/config_object.h"
#include "cni/ipam/host_local.h"
#include "cni/ipam/static_ipam.h"

namespace keelson {

Outcome<const Ipam*> find_ipam(const Invocation& invocation) {
  ConfigObject config(invocation.part("ipam"), "ipam");
  std::string type = TRY(config.text("type"));
  if (type.empty()) return nullptr;
  for (const Ipam* ipam : {&host_local_ipam, &static_ipam}) {
    if (type == ipam->type) return ipam;
  }
  return unsupported("ipam.type " + type +
                     " is not supported by this plugin, which supports host-local and static and runs no other program");
}

Outcome<const Ipam*> find_ipam_of_leases(const Invocation& invocation) {
  Outcome<const Ipam*> found = find_ipam(invocation);
  if (!found && invocation.part("prevResult").is_null()) return nullptr;
  return found;
}

}  // namespace keelson
