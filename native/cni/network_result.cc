#include "cni/network_result.h"

#include <limits>

#include "cni/config_object.h"

namespace keelson {

namespace {

constexpr int64_t most = std::numeric_limits<uint32_t>::max();

void write_texts(JsonWriter& json, const char* key, const std::vector<std::string>& texts) {
  if (texts.empty()) return;
  json.key(key).begin_array();
  for (const std::string& text : texts) json.value(text);
  json.end_array();
}

void write_text(JsonWriter& json, const char* key, const std::string& text) {
  if (!text.empty()) json.key(key).value(text);
}

void write_number(JsonWriter& json, const char* key, int64_t number) {
  if (number != 0) json.key(key).value(number);
}

void write_interface(JsonWriter& json, const InterfaceResult& interface) {
  json.begin_object().key("name").value(interface.name);
  write_text(json, "mac", interface.mac);
  write_number(json, "mtu", interface.mtu);
  write_text(json, "sandbox", interface.sandbox);
  write_text(json, "socketPath", interface.socket_path);
  write_text(json, "pciID", interface.pci_id);
  json.end_object();
}

void write_address(JsonWriter& json, const AddressResult& address, bool with_family) {
  json.begin_object();
  if (with_family) json.key("version").value(address.address.address.is_v4() ? "4" : "6");
  if (address.interface) json.key("interface").value(*address.interface);
  json.key("address").value(to_string(address.address));
  if (address.gateway) json.key("gateway").value(to_string(address.gateway));
  json.end_object();
}

void write_route(JsonWriter& json, const RouteResult& route) {
  json.begin_object().key("dst").value(to_string(route.destination));
  if (route.gateway) json.key("gw").value(to_string(route.gateway));
  write_number(json, "mtu", route.mtu);
  write_number(json, "advmss", route.advertised_mss);
  write_number(json, "priority", route.priority);
  if (route.table) json.key("table").value(*route.table);
  if (route.scope) json.key("scope").value(*route.scope);
  json.end_object();
}

void write_dns(JsonWriter& json, const DnsResult& dns) {
  json.key("dns").begin_object();
  write_texts(json, "nameservers", dns.nameservers);
  write_text(json, "domain", dns.domain);
  write_texts(json, "search", dns.search);
  write_texts(json, "options", dns.options);
  json.end_object();
}

Outcome<IpPrefix> prefix_of(ConfigObject& object, std::string_view key) {
  std::string text = TRY(object.text(key));
  std::optional<IpPrefix> prefix = parse_prefix(text);
  if (!prefix) {
    return misconfigured(object.path_of(key) + " must be an address and a prefix length, not \"" + text + "\"");
  }
  return *prefix;
}

Outcome<InterfaceResult> parse_interface(const Json& json) {
  ConfigObject object(json, "prevResult.interfaces");
  InterfaceResult interface;
  interface.name = TRY(object.text("name"));
  interface.mac = TRY(object.text("mac"));
  interface.sandbox = TRY(object.text("sandbox"));
  interface.mtu = TRY(object.integer("mtu", 0, most, 0));
  interface.socket_path = TRY(object.text("socketPath"));
  interface.pci_id = TRY(object.text("pciID"));
  return interface;
}

Outcome<AddressResult> parse_address_result(const Json& json) {
  ConfigObject object(json, "prevResult.ips");
  AddressResult address;
  if (!object.member("interface").is_null()) address.interface = TRY(object.integer("interface", -1, most, 0));
  address.address = TRY(prefix_of(object, "address"));
  address.gateway = TRY(object.address("gateway"));
  return address;
}

Outcome<RouteResult> parse_route(const Json& json, const std::string& path) {
  ConfigObject object(json, path);
  RouteResult route;
  IpPrefix written = TRY(prefix_of(object, "dst"));
  route.destination = {network_of(written), written.length};
  route.gateway = TRY(object.address("gw"));
  route.mtu = TRY(object.integer("mtu", 0, most, 0));
  route.advertised_mss = TRY(object.integer("advmss", 0, most, 0));
  route.priority = TRY(object.integer("priority", 0, most, 0));
  if (!object.member("table").is_null()) route.table = TRY(object.integer("table", 0, most, 0));
  if (!object.member("scope").is_null()) route.scope = TRY(object.integer("scope", 0, 255, 0));
  return route;
}

}  // namespace

bool DnsResult::is_empty() const { return nameservers.empty() && domain.empty() && search.empty() && options.empty(); }

std::string to_json(const NetworkResult& result, const std::string& version) {
  // Up to 0.4.0 an address has its family.
  bool with_family = version.starts_with("0.");
  JsonWriter json;
  json.begin_object().key("cniVersion").value(version);
  if (!result.interfaces.empty()) {
    json.key("interfaces").begin_array();
    for (const InterfaceResult& interface : result.interfaces) write_interface(json, interface);
    json.end_array();
  }
  if (!result.addresses.empty()) {
    json.key("ips").begin_array();
    for (const AddressResult& address : result.addresses) write_address(json, address, with_family);
    json.end_array();
  }
  if (!result.routes.empty()) {
    json.key("routes").begin_array();
    for (const RouteResult& route : result.routes) write_route(json, route);
    json.end_array();
  }
  if (!result.dns.is_empty()) write_dns(json, result.dns);
  json.end_object();
  return json.take() + "\n";
}

Outcome<std::optional<NetworkResult>> parse_previous_result(const Json& json) {
  if (json.is_null()) return std::nullopt;
  if (!json.is_object()) return misconfigured("prevResult must be an object");
  NetworkResult result;
  ConfigObject object(json, "prevResult");
  for (const Json& item : *TRY(object.items("interfaces"))) result.interfaces.push_back(TRY(parse_interface(item)));
  for (const Json& item : *TRY(object.items("ips"))) result.addresses.push_back(TRY(parse_address_result(item)));
  result.routes = TRY(parse_routes(object.member("routes"), "prevResult.routes"));
  result.dns = TRY(parse_dns(object.member("dns")));
  return result;
}

Outcome<std::vector<RouteResult>> parse_routes(const Json& json, const std::string& path) {
  if (!json.is_null() && !json.is_array()) return misconfigured(path + " must be an array");
  std::vector<RouteResult> routes;
  for (const Json& item : json.items()) routes.push_back(TRY(parse_route(item, path)));
  return routes;
}

Outcome<DnsResult> parse_dns(const Json& json) {
  ConfigObject object(json, "dns");
  DnsResult dns;
  dns.nameservers = TRY(object.texts("nameservers"));
  dns.domain = TRY(object.text("domain"));
  dns.search = TRY(object.texts("search"));
  dns.options = TRY(object.texts("options"));
  return dns;
}

Outcome<std::optional<DnsResult>> parse_own_dns(const Json& json) {
  DnsResult dns = TRY(parse_dns(json));
  auto is_list = [&](const char* key) { return find_member(json, key).is_array(); };
  if (dns.is_empty() && !is_list("nameservers") && !is_list("search") && !is_list("options")) return std::nullopt;
  return dns;
}

}  // namespace keelson
