// Builds one nftables rule expression by expression (libnftnl), in the same way as the nft program, so that nft can list it
// in its own syntax.
#pragma once

// Must come before the kernel's headers, which define the same names and then omit them.
#include <netinet/in.h>

#include <libnftnl/rule.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "cni/ip_address.h"

namespace keelson {

// Which address of a packet's IP header to match.
enum class Side { source, destination };

class NftRule {
 public:
  // `family`: NFPROTO_INET, NFPROTO_IPV4 or NFPROTO_IPV6, the table's.
  NftRule(uint8_t family, const char* table, const char* chain);

  NftRule& match_address(Side side, const IpPrefix& prefix, bool equal = true);
  NftRule& match_destination_port(uint8_t protocol, uint16_t port);
  NftRule& match_local_destination();
  // The same, but only addresses of the interface that the packet came in on.
  NftRule& match_local_destination_of_input();
  // Packets that came in on any interface except lo.
  NftRule& match_from_outside();
  // The port that the connection's first packet was sent to, before an earlier rule changed it.
  NftRule& match_original_port(uint8_t protocol, uint16_t port);
  // Packets whose destination an earlier rule has changed.
  NftRule& match_dnat();
  NftRule& jump(const char* chain);
  NftRule& go_to(const char* chain);
  NftRule& return_();
  NftRule& drop();
  NftRule& masquerade();
  NftRule& dnat(const IpAddress& address, uint16_t port);
  NftRule& comment(std::string_view text);

  uint8_t family() const { return family_; }
  const nftnl_rule* get() const { return rule_.get(); }

 private:
  struct Free {
    void operator()(nftnl_rule* rule) const { nftnl_rule_free(rule); }
  };
  nftnl_expr* add(const char* expression);
  void compare(bool equal, const void* data, uint32_t size);
  void match_protocol(uint8_t protocol);
  void payload(uint32_t base, uint32_t offset, uint32_t size);
  void immediate(uint32_t reg, const void* data, uint32_t size);
  void match_local(uint32_t flags);
  void verdict(int code, const char* chain);

  uint8_t family_;
  std::unique_ptr<nftnl_rule, Free> rule_;
};

}  // namespace keelson
