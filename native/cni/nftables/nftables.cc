#include "cni/nftables/nftables.h"

#include <arpa/inet.h>
#include <endian.h>
#include <libnftnl/chain.h>
#include <libnftnl/table.h>
#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <memory>

namespace keelson {

namespace {

struct FreeTable {
  void operator()(nftnl_table* table) const { nftnl_table_free(table); }
};
struct FreeChain {
  void operator()(nftnl_chain* chain) const { nftnl_chain_free(chain); }
};
using Chain = std::unique_ptr<nftnl_chain, FreeChain>;

nlmsghdr* open_nft_message(NetlinkBatch& batch, int message_type, uint16_t flags, uint8_t family, std::string step) {
  auto type = static_cast<uint16_t>((NFNL_SUBSYS_NFTABLES << 8) | message_type);
  nlmsghdr* message = batch.open(type, flags, std::move(step));
  auto* header = NetlinkBatch::header<nfgenmsg>(message);
  header->nfgen_family = family;
  header->version = NFNETLINK_V0;
  return message;
}

Chain make_chain(const char* table, const char* name) {
  Chain chain(nftnl_chain_alloc());
  nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_TABLE, table);
  nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_NAME, name);
  return chain;
}

std::string chain_step(const char* verb, const char* table, const char* chain) {
  return std::string(verb) + " chain " + chain + " of nftables table " + table;
}

// Also true for a kernel without nf_tables, which does not know the type of the request.
bool is_absence(int error) { return error == ENOENT || error == EINVAL || error == EOPNOTSUPP; }

int read_comment(const nftnl_udata* data, void* comment) {
  if (nftnl_udata_type(data) != NFTNL_UDATA_RULE_COMMENT || nftnl_udata_len(data) == 0) return 0;
  *static_cast<std::string*>(comment) =
      std::string(static_cast<const char*>(nftnl_udata_get(data)), nftnl_udata_len(data) - 1);
  return 0;
}

// The chain that an `immediate` expression's verdict names, if any.
std::string chain_of_verdict(const nlattr* expression_data) {
  std::string chain;
  each_nested(expression_data, [&](const nlattr* immediate) {
    if (mnl_attr_get_type(immediate) != NFTA_IMMEDIATE_DATA) return;
    each_nested(immediate, [&](const nlattr* data) {
      if (mnl_attr_get_type(data) != NFTA_DATA_VERDICT) return;
      each_nested(data, [&](const nlattr* verdict) {
        if (mnl_attr_get_type(verdict) == NFTA_VERDICT_CHAIN) chain = mnl_attr_get_str(verdict);
      });
    });
  });
  return chain;
}

std::string jump_of(const nlattr* expressions) {
  std::string chain;
  each_nested(expressions, [&](const nlattr* element) {
    bool immediate = false;
    each_nested(element, [&](const nlattr* part) {
      if (mnl_attr_get_type(part) == NFTA_EXPR_NAME) {
        immediate = std::string_view(mnl_attr_get_str(part)) == "immediate";
      }
      if (mnl_attr_get_type(part) == NFTA_EXPR_DATA && immediate) chain = chain_of_verdict(part);
    });
  });
  return chain;
}

FoundRule read_rule(const nlmsghdr* message) {
  FoundRule rule;
  each_attribute(message, sizeof(nfgenmsg), [&](const nlattr* attribute) {
    switch (mnl_attr_get_type(attribute)) {
      case NFTA_RULE_CHAIN: rule.chain = mnl_attr_get_str(attribute); break;
      case NFTA_RULE_HANDLE: rule.handle = be64toh(mnl_attr_get_u64(attribute)); break;
      case NFTA_RULE_EXPRESSIONS: rule.jumps_to = jump_of(attribute); break;
      case NFTA_RULE_USERDATA:
        nftnl_udata_parse(mnl_attr_get_payload(attribute), mnl_attr_get_payload_len(attribute), read_comment,
                          &rule.comment);
        break;
      default: break;
    }
  });
  return rule;
}

}  // namespace

Result<std::vector<FoundRule>> list_rules(NetlinkSocket& netlink, uint8_t family, const char* table,
                                          const char* chain) {
  NetlinkBatch batch;
  nlmsghdr* message = open_nft_message(batch, NFT_MSG_GETRULE, NLM_F_DUMP, family,
                                       std::string("list the rules of nftables table ") + table);
  mnl_attr_put_strz(message, NFTA_RULE_TABLE, table);
  if (chain) mnl_attr_put_strz(message, NFTA_RULE_CHAIN, chain);
  std::vector<FoundRule> rules;
  Result<NetlinkReplies> replies = netlink.query(batch);
  if (!replies && is_absence(replies.error().error_number)) return rules;
  TRY(std::move(replies)).each([&](const nlmsghdr* reply) { rules.push_back(read_rule(reply)); });
  return rules;
}

Result<bool> has_chain(NetlinkSocket& netlink, uint8_t family, const char* table, const char* chain) {
  NetlinkBatch batch;
  nlmsghdr* message = open_nft_message(batch, NFT_MSG_GETCHAIN, 0, family, chain_step("find", table, chain));
  nftnl_chain_nlmsg_build_payload(message, make_chain(table, chain).get());
  Result<NetlinkReplies> replies = netlink.query(batch);
  if (!replies && is_absence(replies.error().error_number)) return false;
  TRY(std::move(replies));
  return true;
}

Done require_nftables(const std::string& backend, const char* field) {
  if (backend.empty() || backend == "nftables") return {};
  return unsupported(std::string(field) + " " + backend + " is not supported by this plugin, which supports only nftables");
}

void NftTransaction::add_table(uint8_t family, const char* name) {
  std::unique_ptr<nftnl_table, FreeTable> table(nftnl_table_alloc());
  nftnl_table_set_str(table.get(), NFTNL_TABLE_NAME, name);
  nlmsghdr* message =
      open_nft_message(batch_, NFT_MSG_NEWTABLE, NLM_F_CREATE, family, std::string("create the nftables table ") + name);
  nftnl_table_nlmsg_build_payload(message, table.get());
}

void NftTransaction::add_chain(uint8_t family, const char* table, const char* chain) {
  nlmsghdr* message =
      open_nft_message(batch_, NFT_MSG_NEWCHAIN, NLM_F_CREATE, family, chain_step("create", table, chain));
  nftnl_chain_nlmsg_build_payload(message, make_chain(table, chain).get());
}

void NftTransaction::add_nat_chain(uint8_t family, const char* table, const char* chain, uint32_t hook, int priority) {
  add_base_chain(family, table, chain, "nat", hook, priority);
}

void NftTransaction::add_filter_chain(uint8_t family, const char* table, const char* chain, uint32_t hook,
                                      int priority) {
  add_base_chain(family, table, chain, "filter", hook, priority);
}

void NftTransaction::add_base_chain(uint8_t family, const char* table, const char* chain, const char* type, uint32_t hook,
                                    int priority) {
  Chain made = make_chain(table, chain);
  nftnl_chain_set_str(made.get(), NFTNL_CHAIN_TYPE, type);
  nftnl_chain_set_u32(made.get(), NFTNL_CHAIN_HOOKNUM, hook);
  nftnl_chain_set_s32(made.get(), NFTNL_CHAIN_PRIO, priority);
  nlmsghdr* message =
      open_nft_message(batch_, NFT_MSG_NEWCHAIN, NLM_F_CREATE, family, chain_step("create", table, chain));
  nftnl_chain_nlmsg_build_payload(message, made.get());
}

void NftTransaction::flush_chain(uint8_t family, const char* table, const char* chain) {
  nlmsghdr* message = open_nft_message(batch_, NFT_MSG_DELRULE, 0, family, chain_step("flush", table, chain));
  mnl_attr_put_strz(message, NFTA_RULE_TABLE, table);
  mnl_attr_put_strz(message, NFTA_RULE_CHAIN, chain);
}

void NftTransaction::delete_chain(uint8_t family, const char* table, const char* chain) {
  nlmsghdr* message = open_nft_message(batch_, NFT_MSG_DELCHAIN, 0, family, chain_step("delete", table, chain));
  nftnl_chain_nlmsg_build_payload(message, make_chain(table, chain).get());
}

void NftTransaction::add_rule(const NftRule& rule) {
  std::string step = std::string("add a rule to chain ") + nftnl_rule_get_str(rule.get(), NFTNL_RULE_CHAIN) +
                     " of nftables table " + nftnl_rule_get_str(rule.get(), NFTNL_RULE_TABLE);
  nlmsghdr* message =
      open_nft_message(batch_, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, rule.family(), std::move(step));
  nftnl_rule_nlmsg_build_payload(message, const_cast<nftnl_rule*>(rule.get()));
}

void NftTransaction::delete_rule(uint8_t family, const char* table, const FoundRule& rule) {
  std::string step = "delete a rule of chain " + rule.chain + " of nftables table " + table;
  nlmsghdr* message = open_nft_message(batch_, NFT_MSG_DELRULE, 0, family, std::move(step));
  mnl_attr_put_strz(message, NFTA_RULE_TABLE, table);
  mnl_attr_put_strz(message, NFTA_RULE_CHAIN, rule.chain.c_str());
  mnl_attr_put_u64(message, NFTA_RULE_HANDLE, htobe64(rule.handle));
}

}  // namespace keelson
