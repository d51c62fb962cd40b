#include "cni/ipam/static_ipam.h"

#include "cni/config_object.h"

namespace keelson {

namespace {

// 10.0.0.7/24: a static address has a prefix length.
Outcome<AddressResult> parse_static(const std::string& text) {
  std::optional<IpPrefix> prefix = parse_prefix(text);
  if (!prefix) return misconfigured("a static address must be an address and a prefix length, not \"" + text + "\"");
  return AddressResult{{}, *prefix, {}};
}

// "a,b, c"
std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    size_t end = std::min(text.find(','), text.size());
    std::string_view part = text.substr(0, end);
    while (part.starts_with(' ')) part.remove_prefix(1);
    while (part.ends_with(' ')) part.remove_suffix(1);
    parts.emplace_back(part);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

std::string argument(const Invocation& invocation, const char* key) {
  auto found = invocation.arguments.find(key);
  return found == invocation.arguments.end() ? std::string() : found->second;
}

// A gateway in CNI_ARGS applies to the addresses in CNI_ARGS.
Done add_from_arguments(const Invocation& invocation, std::vector<AddressResult>& addresses) {
  std::vector<AddressResult> named;
  for (const std::string& text : split(argument(invocation, "IP"))) named.push_back(TRY(parse_static(text)));
  for (const std::string& text : split(argument(invocation, "GATEWAY"))) {
    std::optional<IpAddress> gateway = parse_address(text);
    if (!gateway) return misconfigured("invalid gateway address: " + text);
    for (AddressResult& address : named) {
      if (contains(address.address, *gateway)) address.gateway = *gateway;
    }
  }
  addresses.insert(addresses.end(), named.begin(), named.end());
  return {};
}

// Addresses from the runtime replace those of the configuration.
Done replace_by(std::vector<AddressResult>& addresses, ConfigObject named) {
  std::vector<std::string> texts = TRY(named.texts("ips"));
  if (texts.empty()) return {};
  addresses.clear();
  for (const std::string& text : texts) addresses.push_back(TRY(parse_static(text)));
  return {};
}

Outcome<NetworkResult> read(const Invocation& invocation) {
  ConfigObject ipam(invocation.part("ipam"), "ipam");
  for (const char* key : {"type", "name"}) ipam.member(key);
  NetworkResult result;
  for (const Json& item : *TRY(ipam.items("addresses"))) {
    ConfigObject object(item, "ipam.addresses");
    std::string text = TRY(object.text("address"));
    AddressResult address = TRY(parse_static(text));
    address.gateway = TRY(object.address("gateway"));
    TRY(object.refuse_others());
    result.addresses.push_back(address);
  }
  TRY(add_from_arguments(invocation, result.addresses));
  TRY(replace_by(result.addresses, ConfigObject(find_member(invocation.part("args"), "cni"), "args.cni")));
  TRY(replace_by(result.addresses, ConfigObject(invocation.part("runtimeConfig"), "runtimeConfig")));
  result.routes = TRY(parse_routes(ipam.member("routes"), "ipam.routes"));
  result.dns = TRY(parse_dns(ipam.member("dns")));
  TRY(ipam.refuse_others());
  return result;
}

Done nothing_to_do(const Invocation&) { return {}; }

// Each address that is also in the result must have the same gateway there.
Done static_check(const Invocation& invocation) {
  NetworkResult wanted = TRY(read(invocation));
  std::optional<NetworkResult> previous = TRY(parse_previous_result(invocation.part("prevResult")));
  if (!previous) return misconfigured("Required prevResult missing");
  for (const AddressResult& one : wanted.addresses) {
    for (const AddressResult& found : previous->addresses) {
      if (found.address.address != one.address.address || !one.gateway || one.gateway == found.gateway) continue;
      return refuse(ErrorCode::internal, "static: Failed to match addr " + to_string(found.address) + " on interface " +
                                             invocation.interface_name);
    }
  }
  return {};
}

Done static_status(const Invocation& invocation) {
  TRY(read(invocation));
  return {};
}

Outcome<std::string> static_add_alone(const Invocation& invocation) {
  return to_json(TRY(read(invocation)), invocation.version);
}

}  // namespace

const Ipam static_ipam{"static", read, nothing_to_do, static_check, static_status, nothing_to_do};
const Plugin static_plugin{"static", static_add_alone, nothing_to_do, static_check, static_status, nothing_to_do};

}  // namespace keelson
