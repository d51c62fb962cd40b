#include "cni/nftables/host_ports.h"

#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>

#include <algorithm>
#include <set>

#include "cni/netlink/addresses.h"
#include "cni/netlink/background.h"
#include "cni/nftables/field_hash.h"
#include "cni/nftables/iptables_leftovers.h"
#include "cni/nftables/nftables.h"

namespace keelson {

namespace {

constexpr const char* port_table = "cni_hostport";
constexpr const char* all_chain = "hostports_all";
// Earlier versions of portmap put rules with a host address here; now it stays empty.
constexpr const char* old_chain = "hostip_hostports";
constexpr const char* port_chain = "hostports";
constexpr const char* masquerade_chain = "masquerading";
constexpr const char* guard_chain = "loopback_guard";

struct Entry {
  const char* chain;
  uint32_t hook;
  const char* old_chain;  // of earlier versions and the reference portmap; it has the same priority as services' chains
};
constexpr Entry entries[] = {{"prerouting_last", NF_INET_PRE_ROUTING, "prerouting"},
                             {"output_last", NF_INET_LOCAL_OUT, "output"}};
// After the rules of services, regardless of creation order: among chains of equal priority the newest runs first.
constexpr int entry_priority = NF_IP_PRI_NAT_DST + 1;

// The interface on which kube-proxy in IPVS mode has the addresses of all services.
constexpr const char* service_interface = "kube-ipvs0";

uint8_t family_of(const IpAddress& address) { return address.is_v4() ? NFPROTO_IPV4 : NFPROTO_IPV6; }

IpPrefix only(const IpAddress& address) { return {address, address.bits()}; }

size_t base_rules(uint8_t family) { return family == NFPROTO_IPV4 ? 5 : 4; }

bool is_base(const FoundRule& rule) {
  return rule.chain == all_chain || rule.chain == guard_chain ||
         std::ranges::find(entries, rule.chain, &Entry::chain) != std::end(entries);
}

bool is_old_base(const FoundRule& rule) {
  return std::ranges::find(entries, rule.chain, &Entry::old_chain) != std::end(entries);
}

IpPrefix network_at(const IpAddress& address) {
  IpPrefix loopback = *parse_prefix("127.0.0.0/8");
  return contains(loopback, address) ? loopback : only(address);
}

// The host's own addresses if those of services are local too (IPVS); otherwise empty. Excludes link-local addresses: each
// pod's interface has one.
Outcome<std::set<IpAddress>> own_addresses(int family) {
  NetlinkSocket netlink = TRY(NetlinkSocket::open(NETLINK_ROUTE));
  std::optional<Link> services = TRY(find_link(netlink, service_interface));
  std::set<IpAddress> own;
  if (!services) return own;
  IpPrefix of_links = *parse_prefix("fe80::/10");
  for (const InterfaceAddress& one : TRY(list_all_addresses(netlink, family))) {
    const IpAddress& address = one.prefix.address;
    if (one.interface != services->index && !contains(of_links, address)) own.insert(address);
  }
  return own;
}

// route_localnet lets packets from the host's 127.0.0.1 out to pods, but also packets from pods to it in: this drops the
// latter.
void add_guard(NftTransaction& transaction) {
  transaction.add_filter_chain(NFPROTO_IPV4, port_table, guard_chain, NF_INET_PRE_ROUTING, NF_IP_PRI_RAW);
  transaction.flush_chain(NFPROTO_IPV4, port_table, guard_chain);
  transaction.add_rule(NftRule(NFPROTO_IPV4, port_table, guard_chain)
                           .match_from_outside()
                           .match_address(Side::destination, *parse_prefix("127.0.0.0/8"))
                           .drop());
}

void add_entry(NftTransaction& transaction, uint8_t family, const Entry& entry, const std::set<IpAddress>& own) {
  auto rule = [&] { return NftRule(family, port_table, entry.chain); };
  transaction.add_nat_chain(family, port_table, entry.chain, entry.hook, entry_priority);
  transaction.flush_chain(family, port_table, entry.chain);
  if (own.empty()) {
    transaction.add_rule(rule().match_local_destination().jump(all_chain));
    return;
  }
  // Also matches addresses that the host gets later.
  if (entry.hook == NF_INET_PRE_ROUTING) {
    transaction.add_rule(rule().match_local_destination_of_input().jump(all_chain));
  }
  for (const IpAddress& address : own) {
    transaction.add_rule(rule().match_address(Side::destination, network_at(address)).jump(all_chain));
  }
}

void add_base(NftTransaction& transaction, uint8_t family, const std::set<IpAddress>& own) {
  transaction.add_table(family, port_table);
  for (const char* chain : {port_chain, old_chain, all_chain}) transaction.add_chain(family, port_table, chain);
  transaction.flush_chain(family, port_table, all_chain);
  for (const char* chain : {old_chain, port_chain}) {
    transaction.add_rule(NftRule(family, port_table, all_chain).jump(chain));
  }
  for (const Entry& entry : entries) add_entry(transaction, family, entry, own);
  if (family == NFPROTO_IPV4) add_guard(transaction);
}

void empty_old_base(NftTransaction& transaction, uint8_t family) {
  for (const Entry& entry : entries) {
    transaction.add_nat_chain(family, port_table, entry.old_chain, entry.hook, NF_IP_PRI_NAT_DST);
    transaction.flush_chain(family, port_table, entry.old_chain);
  }
}

bool concerns(const PortMapping& mapping, const IpAddress& pod) {
  return !mapping.host_address || mapping.host_address.family == pod.family;
}

void add_port(NftTransaction& transaction, const HostPorts& ports, const PortMapping& mapping, const IpAddress& pod) {
  NftRule rule(family_of(pod), port_table, port_chain);
  for (const AddressCondition& condition : ports.conditions) {
    if (condition.prefix.address.family == pod.family) {
      rule.match_address(condition.side, condition.prefix, condition.equal);
    }
  }
  if (mapping.host_address && !mapping.host_address.is_unspecified()) {
    rule.match_address(Side::destination, only(mapping.host_address));
  }
  rule.match_destination_port(mapping.protocol, mapping.host_port).dnat(pod, mapping.container_port);
  transaction.add_rule(rule.comment(ports.container_id));
}

void add_masquerading(NftTransaction& transaction, const HostPorts& ports, const IpPrefix& prefix) {
  const IpAddress& pod = prefix.address;
  uint8_t family = family_of(pod);
  transaction.add_nat_chain(family, port_table, masquerade_chain, NF_INET_POST_ROUTING, NF_IP_PRI_NAT_SRC);
  NftRule own(family, port_table, masquerade_chain);
  own.match_address(Side::source, only(pod)).match_address(Side::destination, only(pod)).masquerade();
  transaction.add_rule(own.comment(ports.container_id));
  if (pod.is_v4()) {
    NftRule host(family, port_table, masquerade_chain);
    host.match_address(Side::source, only(*parse_address("127.0.0.1")))
        .match_address(Side::destination, only(pod))
        .masquerade();
    transaction.add_rule(host.comment(ports.container_id));
  }
  for (const PortMapping& mapping : ports.mappings) {
    if (!concerns(mapping, pod)) continue;
    NftRule neighbours(family, port_table, masquerade_chain);
    neighbours.match_address(Side::source, prefix)
        .match_address(Side::destination, only(pod))
        .match_original_port(mapping.protocol, mapping.host_port)
        .match_dnat()
        .masquerade();
    transaction.add_rule(neighbours.comment(ports.container_id));
  }
  if (!ports.masquerade_all) return;
  NftRule every(family, port_table, masquerade_chain);
  every.match_dnat().match_address(Side::destination, only(pod)).masquerade();
  transaction.add_rule(every.comment(ports.container_id));
}

Status remove_once(NetlinkSocket& netlink, uint8_t family, const std::string& container_id) {
  NftTransaction transaction;
  for (const FoundRule& rule : TRY(list_rules(netlink, family, port_table, nullptr))) {
    if (!is_base(rule) && rule.comment == container_id) transaction.delete_rule(family, port_table, rule);
  }
  return transaction.commit(netlink);
}

Status remove_all(NetlinkSocket& netlink, const std::string& network, const std::string& container_id) {
  for (uint8_t family : {NFPROTO_IPV4, NFPROTO_IPV6}) {
    Status outcome = remove_once(netlink, family, container_id);
    for (int attempt = 1; attempt < deletion_attempts && !outcome && outcome.error().error_number == ENOENT;
         ++attempt) {
      outcome = remove_once(netlink, family, container_id);
    }
    TRY(outcome);
  }
  // 28 characters in total, the maximum length of an iptables chain name.
  std::string chain = "CNI-DN-" + hash_digits(network + container_id, 21);
  return delete_iptables_chain(netlink, "CNI-HOSTPORT-DNAT", chain.c_str());
}

}  // namespace

Done add_host_ports(const HostPorts& ports, const IpPrefix& prefix) {
  const IpAddress& pod = prefix.address;
  NetlinkSocket netlink = TRY(NetlinkSocket::open(NETLINK_NETFILTER));
  uint8_t family = family_of(pod);
  NftTransaction transaction;
  std::vector<FoundRule> rules = TRY(list_rules(netlink, family, port_table, nullptr));
  std::set<IpAddress> own = TRY(own_addresses(pod.family));
  bool is_complete = static_cast<size_t>(std::ranges::count_if(rules, is_base)) == base_rules(family);
  if (!is_complete || !own.empty()) add_base(transaction, family, own);
  if (std::ranges::any_of(rules, is_old_base)) empty_old_base(transaction, family);
  for (const PortMapping& mapping : ports.mappings) {
    if (concerns(mapping, pod)) add_port(transaction, ports, mapping, pod);
  }
  if (ports.masquerade) add_masquerading(transaction, ports, prefix);
  Status added = transaction.commit(netlink);
  close_later(std::move(netlink));
  TRY(added);
  return {};
}

Done check_host_ports(const HostPorts& ports, const IpAddress& pod) {
  NetlinkSocket netlink = TRY(NetlinkSocket::open(NETLINK_NETFILTER));
  std::vector<FoundRule> rules = TRY(list_rules(netlink, family_of(pod), port_table, nullptr));
  auto found_in = [&](const char* chain) {
    return std::ranges::count_if(
        rules, [&](const FoundRule& rule) { return rule.chain == chain && rule.comment == ports.container_id; });
  };
  auto wanted =
      std::ranges::count_if(ports.mappings, [&](const PortMapping& mapping) { return concerns(mapping, pod); });
  if (found_in(port_chain) < wanted) {
    return refuse(ErrorCode::internal, "missing hostport rules in \"hostports\" chain");
  }
  if (ports.masquerade && found_in(masquerade_chain) < (pod.is_v4() ? 2 : 1)) {
    return refuse(ErrorCode::internal, "missing hostport rules in \"masquerading\" chain");
  }
  return {};
}

Done remove_host_ports(const std::string& network, const std::string& container_id) {
  Result<NetlinkSocket> netlink = NetlinkSocket::open(NETLINK_NETFILTER);
  if (!netlink) return {};
  Status removed = remove_all(*netlink, network, container_id);
  close_later(std::move(*netlink));
  TRY(removed);
  return {};
}

}  // namespace keelson
