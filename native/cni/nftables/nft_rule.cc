#include "cni/nftables/nft_rule.h"

#include <arpa/inet.h>
#include <libnftnl/expr.h>
#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/rtnetlink.h>

#include <array>

namespace keelson {

namespace {

// The kernel's limit of a rule's user data.
constexpr uint32_t user_data_limit = 256;

// The index of lo in every network namespace.
constexpr uint32_t loopback_index = 1;

struct HeaderOffsets {
  uint32_t source;
  uint32_t destination;
};
constexpr HeaderOffsets v4_offsets{12, 16};
constexpr HeaderOffsets v6_offsets{8, 24};

std::array<uint8_t, 16> mask_of(const IpPrefix& prefix) {
  IpPrefix none{{prefix.address.family, {}}, prefix.length};
  std::array<uint8_t, 16> mask = last_of(none).bytes;
  for (uint8_t& byte : mask) byte = static_cast<uint8_t>(~byte);
  return mask;
}

}  // namespace

NftRule::NftRule(uint8_t family, const char* table, const char* chain) : family_(family), rule_(nftnl_rule_alloc()) {
  nftnl_rule_set_u32(rule_.get(), NFTNL_RULE_FAMILY, family);
  nftnl_rule_set_str(rule_.get(), NFTNL_RULE_TABLE, table);
  nftnl_rule_set_str(rule_.get(), NFTNL_RULE_CHAIN, chain);
}

nftnl_expr* NftRule::add(const char* expression) {
  nftnl_expr* made = nftnl_expr_alloc(expression);
  nftnl_rule_add_expr(rule_.get(), made);
  return made;
}

void NftRule::compare(bool equal, const void* data, uint32_t size) {
  nftnl_expr* expression = add("cmp");
  nftnl_expr_set_u32(expression, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_CMP_OP, equal ? NFT_CMP_EQ : NFT_CMP_NEQ);
  nftnl_expr_set(expression, NFTNL_EXPR_CMP_DATA, data, size);
}

void NftRule::match_protocol(uint8_t protocol) {
  nftnl_expr* expression = add("meta");
  nftnl_expr_set_u32(expression, NFTNL_EXPR_META_KEY, NFT_META_L4PROTO);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_META_DREG, NFT_REG_1);
  compare(true, &protocol, sizeof protocol);
}

void NftRule::payload(uint32_t base, uint32_t offset, uint32_t size) {
  nftnl_expr* expression = add("payload");
  nftnl_expr_set_u32(expression, NFTNL_EXPR_PAYLOAD_BASE, base);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_PAYLOAD_LEN, size);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_PAYLOAD_DREG, NFT_REG_1);
}

void NftRule::immediate(uint32_t reg, const void* data, uint32_t size) {
  nftnl_expr* expression = add("immediate");
  nftnl_expr_set_u32(expression, NFTNL_EXPR_IMM_DREG, reg);
  nftnl_expr_set(expression, NFTNL_EXPR_IMM_DATA, data, size);
}

void NftRule::verdict(int code, const char* chain) {
  nftnl_expr* expression = add("immediate");
  nftnl_expr_set_u32(expression, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_IMM_VERDICT, static_cast<uint32_t>(code));
  if (chain) nftnl_expr_set_str(expression, NFTNL_EXPR_IMM_CHAIN, chain);
}

NftRule& NftRule::match_address(Side side, const IpPrefix& prefix, bool equal) {
  bool v4 = prefix.address.is_v4();
  if (family_ == NFPROTO_INET) {
    nftnl_expr* expression = add("meta");
    nftnl_expr_set_u32(expression, NFTNL_EXPR_META_KEY, NFT_META_NFPROTO);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_META_DREG, NFT_REG_1);
    uint8_t protocol = v4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
    compare(true, &protocol, sizeof protocol);
  }
  HeaderOffsets offsets = v4 ? v4_offsets : v6_offsets;
  auto size = static_cast<uint32_t>(prefix.address.size());
  payload(NFT_PAYLOAD_NETWORK_HEADER, side == Side::source ? offsets.source : offsets.destination, size);
  if (prefix.length < prefix.address.bits()) {
    std::array<uint8_t, 16> mask = mask_of(prefix);
    std::array<uint8_t, 16> zero{};
    nftnl_expr* expression = add("bitwise");
    nftnl_expr_set_u32(expression, NFTNL_EXPR_BITWISE_SREG, NFT_REG_1);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_BITWISE_DREG, NFT_REG_1);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_BITWISE_LEN, size);
    nftnl_expr_set(expression, NFTNL_EXPR_BITWISE_MASK, mask.data(), size);
    nftnl_expr_set(expression, NFTNL_EXPR_BITWISE_XOR, zero.data(), size);
  }
  compare(equal, network_of(prefix).bytes.data(), size);
  return *this;
}

NftRule& NftRule::match_destination_port(uint8_t protocol, uint16_t port) {
  match_protocol(protocol);
  // The same offset for TCP, UDP and SCTP.
  payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, sizeof port);
  uint16_t ordered = htons(port);
  compare(true, &ordered, sizeof ordered);
  return *this;
}

NftRule& NftRule::match_original_port(uint8_t protocol, uint16_t port) {
  match_protocol(protocol);
  nftnl_expr* expression = add("ct");
  nftnl_expr_set_u32(expression, NFTNL_EXPR_CT_KEY, NFT_CT_PROTO_DST);
  nftnl_expr_set_u8(expression, NFTNL_EXPR_CT_DIR, IP_CT_DIR_ORIGINAL);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_CT_DREG, NFT_REG_1);
  uint16_t ordered = htons(port);
  compare(true, &ordered, sizeof ordered);
  return *this;
}

void NftRule::match_local(uint32_t flags) {
  nftnl_expr* expression = add("fib");
  nftnl_expr_set_u32(expression, NFTNL_EXPR_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_FIB_FLAGS, flags);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_FIB_DREG, NFT_REG_1);
  uint32_t local = RTN_LOCAL;
  compare(true, &local, sizeof local);
}

NftRule& NftRule::match_local_destination() {
  match_local(NFTA_FIB_F_DADDR);
  return *this;
}

NftRule& NftRule::match_local_destination_of_input() {
  match_local(NFTA_FIB_F_DADDR | NFTA_FIB_F_IIF);
  return *this;
}

NftRule& NftRule::match_from_outside() {
  nftnl_expr* expression = add("meta");
  nftnl_expr_set_u32(expression, NFTNL_EXPR_META_KEY, NFT_META_IIF);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_META_DREG, NFT_REG_1);
  compare(false, &loopback_index, sizeof loopback_index);
  return *this;
}

NftRule& NftRule::match_dnat() {
  nftnl_expr* expression = add("ct");
  nftnl_expr_set_u32(expression, NFTNL_EXPR_CT_KEY, NFT_CT_STATUS);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_CT_DREG, NFT_REG_1);
  uint32_t status = IPS_DST_NAT;
  uint32_t zero = 0;
  expression = add("bitwise");
  nftnl_expr_set_u32(expression, NFTNL_EXPR_BITWISE_SREG, NFT_REG_1);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_BITWISE_DREG, NFT_REG_1);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_BITWISE_LEN, sizeof status);
  nftnl_expr_set(expression, NFTNL_EXPR_BITWISE_MASK, &status, sizeof status);
  nftnl_expr_set(expression, NFTNL_EXPR_BITWISE_XOR, &zero, sizeof zero);
  compare(false, &zero, sizeof zero);
  return *this;
}

NftRule& NftRule::jump(const char* chain) {
  verdict(NFT_JUMP, chain);
  return *this;
}

NftRule& NftRule::go_to(const char* chain) {
  verdict(NFT_GOTO, chain);
  return *this;
}

NftRule& NftRule::return_() {
  verdict(NFT_RETURN, nullptr);
  return *this;
}

NftRule& NftRule::drop() {
  verdict(NF_DROP, nullptr);
  return *this;
}

NftRule& NftRule::masquerade() {
  add("masq");
  return *this;
}

NftRule& NftRule::dnat(const IpAddress& address, uint16_t port) {
  uint16_t ordered = htons(port);
  immediate(NFT_REG_1, address.bytes.data(), static_cast<uint32_t>(address.size()));
  immediate(NFT_REG_2, &ordered, sizeof ordered);
  nftnl_expr* expression = add("nat");
  nftnl_expr_set_u32(expression, NFTNL_EXPR_NAT_TYPE, NFT_NAT_DNAT);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_NAT_FAMILY, address.is_v4() ? NFPROTO_IPV4 : NFPROTO_IPV6);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_NAT_REG_ADDR_MIN, NFT_REG_1);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_NAT_REG_PROTO_MIN, NFT_REG_2);
  return *this;
}

NftRule& NftRule::comment(std::string_view text) {
  nftnl_udata_buf* data = nftnl_udata_buf_alloc(user_data_limit);
  nftnl_udata_put_strz(data, NFTNL_UDATA_RULE_COMMENT, std::string(text).c_str());
  nftnl_rule_set_data(rule_.get(), NFTNL_RULE_USERDATA, nftnl_udata_buf_data(data), nftnl_udata_buf_len(data));
  nftnl_udata_buf_free(data);
  return *this;
}

}  // namespace keelson
