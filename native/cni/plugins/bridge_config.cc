#include "cni/plugins/bridge_config.h"

#include "cni/config_object.h"
#include "cni/nftables/nftables.h"

namespace keelson {

namespace {

constexpr size_t interface_name_limit = 15;
constexpr int64_t mtu_limit = 65535;

// The runtime's choice takes precedence.
Outcome<std::string> read_mac(const Invocation& invocation) {
  std::string mac;
  auto argument = invocation.arguments.find("MAC");
  if (argument != invocation.arguments.end()) mac = argument->second;
  for (const Json* source : {&find_member(invocation.part("args"), "cni"), &invocation.part("runtimeConfig")}) {
    std::string named = TRY(ConfigObject(*source, "").text("mac"));
    if (!named.empty()) mac = named;
  }
  return mac;
}

Done refuse_combinations(const Invocation& invocation, const BridgeConfig& config) {
  if (config.hairpin && config.promiscuous) {
    return misconfigured("cannot set hairpin mode and promiscuous mode at the same time");
  }
  if (config.no_container_interface && !find_member(invocation.part("ipam"), "type").string().empty()) {
    return misconfigured("cannot use IPAM when DisableContainerInterface flag is set");
  }
  if (config.bridge.size() > interface_name_limit) {
    return misconfigured("bridge: " + config.bridge + " is too long for an interface");
  }
  return {};
}

}  // namespace

Outcome<BridgeConfig> read_bridge_config(const Invocation& invocation) {
  ConfigObject object(invocation.config, "");
  for (const char* key : {"cniVersion", "name", "type", "capabilities", "args", "runtimeConfig", "prevResult", "ipam",
                          "cni.dev/valid-attachments", "cni.dev/attachments"}) {
    object.member(key);
  }
  BridgeConfig config;
  std::string bridge = TRY(object.text("bridge"));
  if (!bridge.empty()) config.bridge = bridge;
  config.is_default_gateway = TRY(object.boolean("isDefaultGateway"));
  config.is_gateway = TRY(object.boolean("isGateway")) || config.is_default_gateway;
  config.force_address = TRY(object.boolean("forceAddress"));
  config.masquerade = TRY(object.boolean("ipMasq"));
  config.hairpin = TRY(object.boolean("hairpinMode"));
  config.promiscuous = TRY(object.boolean("promiscMode"));
  config.isolated = TRY(object.boolean("portIsolation"));
  config.detect_duplicates = TRY(object.boolean("enabledad"));
  config.no_container_interface = TRY(object.boolean("disableContainerInterface"));
  config.mtu = TRY(object.integer("mtu", 0, mtu_limit, 0));
  config.mac = TRY(read_mac(invocation));
  config.dns = TRY(parse_own_dns(object.member("dns")));
  // Affects only how VLANs are treated, and this plugin has none.
  object.member("preserveDefaultVlan");
  std::string backend = TRY(object.text("ipMasqBackend"));
  TRY(require_nftables(backend, "ipMasqBackend"));
  TRY(refuse_combinations(invocation, config));
  TRY(object.refuse_others());
  return config;
}

}  // namespace keelson
