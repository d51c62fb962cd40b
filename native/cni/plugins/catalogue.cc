#include "cni/plugins/catalogue.h"

#include "cni/ipam/host_local.h"
#include "cni/ipam/static_ipam.h"
#include "cni/plugins/bridge.h"
#include "cni/plugins/chain.h"
#include "cni/plugins/host_gw.h"
#include "cni/plugins/loopback.h"
#include "cni/plugins/portmap.h"
#include "cni/plugins/ptp.h"

namespace keelson {

namespace {

const Plugin* const plugins[] = {&loopback_plugin, &bridge_plugin,     &ptp_plugin,    &portmap_plugin,
                                 &host_gw_plugin,  &host_local_plugin, &static_plugin, &chain_plugin};

}  // namespace

std::span<const Plugin* const> all_plugins() { return plugins; }

const Plugin* find_plugin(std::string_view name) {
  for (const Plugin* plugin : plugins) {
    if (name == plugin->name) return plugin;
  }
  return nullptr;
}

}  // namespace keelson
