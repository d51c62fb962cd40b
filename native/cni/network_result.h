// The result of an ADD (CNI spec 1.1.0, section 5): interfaces, addresses, routes, DNS. Written in the configuration's
// version, and parsed from a `prevResult`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cni/ip_address.h"
#include "cni/plugin_error.h"
#include "common/json.h"

namespace keelson {

struct InterfaceResult {
  std::string name;
  std::string mac;
  std::string sandbox;  // path of the network namespace; empty: the host's
  int64_t mtu = 0;
  std::string socket_path;
  std::string pci_id;

  InterfaceResult() = default;
  explicit InterfaceResult(std::string its_name, std::string its_mac = {}, std::string path = {})
      : name(std::move(its_name)), mac(std::move(its_mac)), sandbox(std::move(path)) {}
};

struct AddressResult {
  std::optional<int64_t> interface;  // index in `interfaces`
  IpPrefix address;
  IpAddress gateway;
};

struct RouteResult {
  IpPrefix destination;
  IpAddress gateway;
  int64_t mtu = 0;
  int64_t advertised_mss = 0;
  int64_t priority = 0;
  std::optional<int64_t> table;
  std::optional<int64_t> scope;
};

struct DnsResult {
  std::vector<std::string> nameservers;
  std::string domain;
  std::vector<std::string> search;
  std::vector<std::string> options;

  bool is_empty() const;
};

struct NetworkResult {
  std::vector<InterfaceResult> interfaces;
  std::vector<AddressResult> addresses;
  std::vector<RouteResult> routes;
  DnsResult dns;
};

std::string to_json(const NetworkResult& result, const std::string& version);

// Parses a `prevResult`; nothing if `json` is null.
Outcome<std::optional<NetworkResult>> parse_previous_result(const Json& json);
// These also parse parts of configurations: `routes` of ipam, `dns`.
Outcome<std::vector<RouteResult>> parse_routes(const Json& json, const std::string& path);
Outcome<DnsResult> parse_dns(const Json& json);
// The configuration's own `dns`, which replaces ipam's. An empty list means no DNS; nothing if it sets none.
Outcome<std::optional<DnsResult>> parse_own_dns(const Json& json);

}  // namespace keelson
