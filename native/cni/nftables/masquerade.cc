#include "cni/nftables/masquerade.h"

#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>

#include <algorithm>

#include "cni/netlink/background.h"
#include "cni/nftables/field_hash.h"
#include "cni/nftables/iptables_leftovers.h"
#include "cni/nftables/nftables.h"

namespace keelson {

namespace {

constexpr uint8_t masquerade_family = NFPROTO_INET;
constexpr const char* masquerade_table = "cni_plugins_masquerade";
constexpr const char* base_chain = "postrouting";
constexpr const char* pod_chain = "masq_checks";
constexpr size_t masquerade_base_rules = 3;
constexpr size_t hash_length = 16;
// The maximum length in nft.
constexpr size_t comment_limit = 128;

std::string hash_of(const std::string& network) { return hash_digits(network, hash_length); }

std::string hash_of(const std::string& network, const std::string& interface_name, const std::string& container_id) {
  return hash_of(network) + "-" + hash_digits(interface_name + ":" + container_id, hash_length);
}

std::string comment_of(const Invocation& invocation) {
  std::string hash = hash_of(invocation.network, invocation.interface_name, invocation.container_id);
  std::string comment =
      hash + ", net: " + invocation.network + ", if: " + invocation.interface_name + ", id: " + invocation.container_id;
  std::erase(comment, '"');
  return comment.substr(0, comment_limit);
}

void add_base(NftTransaction& transaction) {
  transaction.add_table(masquerade_family, masquerade_table);
  transaction.add_chain(masquerade_family, masquerade_table, pod_chain);
  transaction.add_nat_chain(masquerade_family, masquerade_table, base_chain, NF_INET_POST_ROUTING, NF_IP_PRI_NAT_SRC);
  transaction.flush_chain(masquerade_family, masquerade_table, base_chain);
  // Multicast is not masqueraded.
  for (const char* multicast : {"224.0.0.0/4", "ff00::/8"}) {
    transaction.add_rule(NftRule(masquerade_family, masquerade_table, base_chain)
                             .match_address(Side::destination, *parse_prefix(multicast))
                             .return_());
  }
  transaction.add_rule(NftRule(masquerade_family, masquerade_table, base_chain).go_to(pod_chain));
}

// Deletes the rules in pod_chain for which `is_stale` is true.
template <typename IsStale>
Done delete_rules(NetlinkSocket& netlink, IsStale is_stale) {
  Status outcome;
  for (int attempt = 0; attempt < deletion_attempts; ++attempt) {
    NftTransaction transaction;
    for (const FoundRule& rule : TRY(list_rules(netlink, masquerade_family, masquerade_table, pod_chain))) {
      if (is_stale(rule)) transaction.delete_rule(masquerade_family, masquerade_table, rule);
    }
    outcome = transaction.commit(netlink);
    if (outcome || outcome.error().error_number != ENOENT) break;
  }
  TRY(outcome);
  return {};
}

}  // namespace

bool may_masquerade(const Invocation& invocation) {
  const Json& asked = invocation.part("ipMasq");
  return !asked.is_null() && (asked.type() != Json::Type::boolean || asked.boolean());
}

Done add_masquerade(const Invocation& invocation, const std::vector<IpPrefix>& addresses) {
  NetlinkSocket netlink = TRY(NetlinkSocket::open(NETLINK_NETFILTER));
  std::string hash = hash_of(invocation.network, invocation.interface_name, invocation.container_id);
  NftTransaction transaction;
  std::vector<FoundRule> rules = TRY(list_rules(netlink, masquerade_family, masquerade_table, nullptr));
  auto in_base = std::ranges::count(rules, base_chain, &FoundRule::chain);
  if (static_cast<size_t>(in_base) != masquerade_base_rules) add_base(transaction);
  for (const FoundRule& rule : rules) {
    if (rule.chain == pod_chain && rule.comment.starts_with(hash)) {
      transaction.delete_rule(masquerade_family, masquerade_table, rule);
    }
  }
  for (const IpPrefix& address : addresses) {
    NftRule rule(masquerade_family, masquerade_table, pod_chain);
    rule.match_address(Side::source, {address.address, address.address.bits()});
    rule.match_address(Side::destination, address, false).masquerade().comment(comment_of(invocation));
    transaction.add_rule(rule);
  }
  Status added = transaction.commit(netlink);
  close_later(std::move(netlink));
  TRY(added);
  return {};
}

Done remove_masquerade(const Invocation& invocation) {
  Result<NetlinkSocket> netlink = NetlinkSocket::open(NETLINK_NETFILTER);
  if (!netlink) return {};
  std::string hash = hash_of(invocation.network, invocation.interface_name, invocation.container_id);
  Done removed = delete_rules(*netlink, [&](const FoundRule& rule) { return rule.comment.starts_with(hash); });
  // 28 characters in total, the maximum length of an iptables chain name.
  std::string chain = "CNI-" + hash_digits(invocation.network + invocation.container_id, 24);
  Status cleared = delete_iptables_chain(*netlink, "POSTROUTING", chain.c_str());
  close_later(std::move(*netlink));
  TRY(removed);
  TRY(cleared);
  return {};
}

Done collect_masquerade(const Invocation& invocation) {
  Result<NetlinkSocket> netlink = NetlinkSocket::open(NETLINK_NETFILTER);
  if (!netlink) return {};
  std::vector<std::string> valid;
  for (const Attachment& one : TRY(valid_attachments(invocation))) {
    valid.push_back(hash_of(invocation.network, one.interface_name, one.container_id));
  }
  std::string network = hash_of(invocation.network);
  return delete_rules(*netlink, [&](const FoundRule& rule) {
    return rule.comment.starts_with(network) &&
           std::ranges::none_of(valid, [&](const std::string& hash) { return rule.comment.starts_with(hash); });
  });
}

}  // namespace keelson
