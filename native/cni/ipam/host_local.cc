#include "cni/ipam/host_local.h"

#include <algorithm>

#include "cni/config_object.h"
#include "cni/ipam/address_ranges.h"
#include "cni/ipam/lease_directory.h"
#include "cni/ipam/resolv_conf.h"

namespace keelson {

namespace {

constexpr const char* default_directory = "/var/lib/cni/networks";

struct Config {
  std::vector<RangeSet> sets;
  std::vector<IpAddress> requested;
  std::vector<RouteResult> routes;
  std::string directory;  // of this network
  std::string resolv_conf;
};

// An address with or without prefix length: 10.0.0.7 or 10.0.0.7/24.
Done add_requested(std::vector<IpAddress>& requested, std::string_view text) {
  std::optional<IpAddress> address = parse_address(text.substr(0, text.find('/')));
  bool whole = text.find('/') == std::string_view::npos || parse_prefix(text);
  if (!address || !whole) return misconfigured("invalid IP address " + std::string(text));
  requested.push_back(*address);
  return {};
}

Outcome<std::vector<IpAddress>> read_requested(const Invocation& invocation) {
  std::vector<IpAddress> requested;
  auto argument = invocation.arguments.find("IP");
  if (argument != invocation.arguments.end() && !argument->second.empty()) {
    TRY(add_requested(requested, argument->second));
  }
  ConfigObject arguments(find_member(invocation.part("args"), "cni"), "args.cni");
  for (const std::string& text : TRY(arguments.texts("ips"))) TRY(add_requested(requested, text));
  ConfigObject runtime(invocation.part("runtimeConfig"), "runtimeConfig");
  for (const std::string& text : TRY(runtime.texts("ips"))) TRY(add_requested(requested, text));
  return requested;
}

// In the same order as the reference host-local, because the sets' numbers are in file names.
Outcome<std::vector<RangeSet>> read_sets(const Invocation& invocation, ConfigObject& ipam) {
  std::vector<RangeSet> sets;
  ConfigObject runtime(invocation.part("runtimeConfig"), "runtimeConfig");
  for (const Json& set : *TRY(runtime.items("ipRanges"))) {
    sets.push_back(TRY(parse_range_set(set, "runtimeConfig.ipRanges")));
  }
  for (const char* key : {"rangeStart", "rangeEnd", "gateway"}) ipam.member(key);
  if (!ipam.member("subnet").is_null()) sets.push_back({TRY(parse_range(invocation.part("ipam"), "ipam"))});
  for (const Json& set : *TRY(ipam.items("ranges"))) sets.push_back(TRY(parse_range_set(set, "ipam.ranges")));
  if (sets.empty()) return misconfigured("ipam: no IP ranges specified");
  TRY(check_range_sets(sets));
  return sets;
}

Outcome<std::string> read_directory(const Invocation& invocation, ConfigObject& ipam) {
  std::string data = TRY(ipam.text("dataDir"));
  return (data.empty() ? default_directory : data) + "/" + invocation.network;
}

Outcome<Config> read_config(const Invocation& invocation) {
  ConfigObject ipam(invocation.part("ipam"), "ipam");
  for (const char* key : {"type", "name"}) ipam.member(key);
  Config config;
  config.sets = TRY(read_sets(invocation, ipam));
  config.requested = TRY(read_requested(invocation));
  config.routes = TRY(parse_routes(ipam.member("routes"), "ipam.routes"));
  config.directory = TRY(read_directory(invocation, ipam));
  config.resolv_conf = TRY(ipam.text("resolvConf"));
  TRY(ipam.refuse_others());
  return config;
}

Outcome<AddressResult> take_requested(LeaseDirectory& leases, const Invocation& owner, const RangeSet& set,
                                      size_t index, const IpAddress& address) {
  const AddressRange& range = *range_of(set, address);
  if (address == range.gateway) {
    return misconfigured("requested ip " + to_string(address) + " is subnet's gateway");
  }
  if (!TRY(leases.reserve(address, owner, index))) {
    return refuse(ErrorCode::internal,
                  "requested IP address " + to_string(address) + " is not available in range set " + to_string(set));
  }
  return AddressResult{{}, {address, range.subnet.length}, range.gateway};
}

Outcome<AddressResult> take_next(LeaseDirectory& leases, const Invocation& owner, const RangeSet& set, size_t index) {
  for (const Lease& lease : leases.leases()) {
    std::optional<IpAddress> address = parse_address(lease.file_name);
    if (!lease.belongs_to(owner) || !address || !range_of(set, *address)) continue;
    return refuse(ErrorCode::internal, lease.file_name + " has been allocated to " + owner.container_id +
                                           ", duplicate allocation is not allowed");
  }
  RangeWalk walk(set, leases.last_reserved(index));
  IpAddress address;
  while (const AddressRange* range = walk.next(address)) {
    if (TRY(leases.reserve(address, owner, index))) {
      return AddressResult{{}, {address, range->subnet.length}, range->gateway};
    }
  }
  return refuse(ErrorCode::internal, "no IP addresses available in range set: " + to_string(set));
}

// Allocates one address from each set: a requested one if it is in the set.
Outcome<std::vector<AddressResult>> take_all(LeaseDirectory& leases, const Invocation& owner, Config& config) {
  std::vector<AddressResult> taken;
  for (size_t index = 0; index < config.sets.size(); ++index) {
    const RangeSet& set = config.sets[index];
    auto wanted =
        std::ranges::find_if(config.requested, [&](const IpAddress& address) { return range_of(set, address); });
    if (wanted == config.requested.end()) {
      taken.push_back(TRY(take_next(leases, owner, set, index)));
    } else {
      IpAddress address = *wanted;
      std::erase(config.requested, address);
      taken.push_back(TRY(take_requested(leases, owner, set, index, address)));
    }
  }
  if (config.requested.empty()) return taken;
  std::string left;
  for (const IpAddress& address : config.requested) left += " " + to_string(address);
  return refuse(ErrorCode::invalid_configuration, "failed to allocate all requested IPs:" + left);
}

Outcome<NetworkResult> host_local_add(const Invocation& invocation) {
  Config config = TRY(read_config(invocation));
  NetworkResult result;
  if (!config.resolv_conf.empty()) result.dns = TRY(read_resolv_conf(config.resolv_conf));
  LeaseDirectory leases = TRY(LeaseDirectory::open(config.directory));
  size_t before = leases.leases().size();
  Outcome<std::vector<AddressResult>> taken = take_all(leases, invocation, config);
  if (!taken) {
    for (size_t i = before; i < leases.leases().size(); ++i) TRY(leases.release(leases.leases()[i]));
    return std::unexpected(taken.error());
  }
  result.addresses = std::move(*taken);
  result.routes = std::move(config.routes);
  return result;
}

// Reads only the directory, so that a range that has become invalid does not keep a lease. Nothing if dataDir is invalid:
// no ADD can have used it.
Outcome<std::optional<LeaseDirectory>> open_leases(const Invocation& invocation) {
  ConfigObject ipam(invocation.part("ipam"), "ipam");
  Outcome<std::string> directory = read_directory(invocation, ipam);
  if (!directory) return std::nullopt;
  return TRY(LeaseDirectory::open_existing(*directory));
}

Done host_local_del(const Invocation& invocation) {
  std::optional<LeaseDirectory> leases = TRY(open_leases(invocation));
  if (!leases) return {};
  for (const Lease& lease : leases->leases()) {
    if (lease.belongs_to(invocation)) TRY(leases->release(lease));
  }
  return {};
}

Done host_local_check(const Invocation& invocation) {
  std::optional<LeaseDirectory> leases = TRY(open_leases(invocation));
  auto is_its = [&](const Lease& lease) { return lease.belongs_to(invocation); };
  if (leases && std::ranges::any_of(leases->leases(), is_its)) return {};
  return refuse(ErrorCode::internal,
                "host-local: Failed to find address added by container " + invocation.container_id);
}

Done host_local_status(const Invocation& invocation) {
  TRY(read_config(invocation));
  return {};
}

// Files that name no interface are kept: an administrator may have reserved an address with one.
Done host_local_gc(const Invocation& invocation) {
  std::vector<Attachment> valid = TRY(valid_attachments(invocation));
  std::optional<LeaseDirectory> leases = TRY(open_leases(invocation));
  if (!leases) return {};
  for (const Lease& lease : leases->leases()) {
    bool is_valid = std::ranges::any_of(valid, [&](const Attachment& one) {
      return one.container_id == lease.container_id && one.interface_name == lease.interface_name;
    });
    if (!is_valid && !lease.interface_name.empty()) TRY(leases->release(lease));
  }
  return {};
}

Outcome<std::string> host_local_add_alone(const Invocation& invocation) {
  return to_json(TRY(host_local_add(invocation)), invocation.version);
}

}  // namespace

const Ipam host_local_ipam{"host-local",     host_local_add,    host_local_del,
                           host_local_check, host_local_status, host_local_gc};
const Plugin host_local_plugin{"host-local",     host_local_add_alone, host_local_del,
                               host_local_check, host_local_status,    host_local_gc};

}  // namespace keelson
