#include "cni/nftables/iptables_leftovers.h"

#include "cni/nftables/nftables.h"

#include <linux/netfilter.h>

namespace keelson {

namespace {

constexpr const char* nat_table = "nat";

Status delete_once(NetlinkSocket& netlink, uint8_t family, const char* parent, const char* chain) {
  NftTransaction transaction;
  for (const FoundRule& rule : TRY(list_rules(netlink, family, nat_table, parent))) {
    if (rule.jumps_to == chain) transaction.delete_rule(family, nat_table, rule);
  }
  transaction.flush_chain(family, nat_table, chain);
  transaction.delete_chain(family, nat_table, chain);
  return transaction.commit(netlink);
}

}  // namespace

Status delete_iptables_chain(NetlinkSocket& netlink, const char* parent, const char* chain) {
  for (uint8_t family : {NFPROTO_IPV4, NFPROTO_IPV6}) {
    Status outcome;
    for (int attempt = 0; attempt < deletion_attempts; ++attempt) {
      if (!TRY(has_chain(netlink, family, nat_table, chain))) {
        outcome = {};
        break;
      }
      outcome = delete_once(netlink, family, parent, chain);
      if (outcome) break;
    }
    TRY(outcome);
  }
  return {};
}

}  // namespace keelson
