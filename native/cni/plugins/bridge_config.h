// The configuration of `bridge`.
#pragma once

#include <optional>
#include <string>

#include "cni/invocation.h"
#include "cni/network_result.h"
#include "cni/plugin_error.h"

namespace keelson {

struct BridgeConfig {
  std::string bridge = "cni0";
  bool is_gateway = false;
  bool is_default_gateway = false;
  bool force_address = false;
  bool masquerade = false;
  bool hairpin = false;
  bool promiscuous = false;
  bool isolated = false;
  bool detect_duplicates = false;
  bool no_container_interface = false;  // the container's end stays down
  int64_t mtu = 0;
  std::string mac;  // of the container's interface
  std::optional<DnsResult> dns;
};

// Refuses keys that this plugin does not support, by name.
Outcome<BridgeConfig> read_bridge_config(const Invocation& invocation);

}  // namespace keelson
