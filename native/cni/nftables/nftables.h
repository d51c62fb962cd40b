// Reads nftables, and changes it in transactions, which take effect completely or not at all.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cni/netlink/netlink.h"
#include "cni/nftables/nft_rule.h"
#include "cni/plugin_error.h"
#include "common/error.h"

namespace keelson {

struct FoundRule {
  std::string chain;
  std::string comment;
  std::string jumps_to;  // a chain
  uint64_t handle = 0;
};

// The rules of one chain, or of the whole table if `chain` is null. Empty if there is no such chain or table.
Result<std::vector<FoundRule>> list_rules(NetlinkSocket& netlink, uint8_t family, const char* table, const char* chain);
Result<bool> has_chain(NetlinkSocket& netlink, uint8_t family, const char* table, const char* chain);

// Checks a configuration's choice of backend, in `field`: it must be nftables or unset.
Done require_nftables(const std::string& backend, const char* field);

// How often to try if another process deletes a rule between reading and deleting.
constexpr int deletion_attempts = 5;

class NftTransaction {
 public:
  // Existing tables and chains are not changed.
  void add_table(uint8_t family, const char* table);
  void add_chain(uint8_t family, const char* table, const char* chain);
  // Base chains, which the kernel calls at NF_INET_* `hook`.
  void add_nat_chain(uint8_t family, const char* table, const char* chain, uint32_t hook, int priority);
  void add_filter_chain(uint8_t family, const char* table, const char* chain, uint32_t hook, int priority);
  void flush_chain(uint8_t family, const char* table, const char* chain);
  void delete_chain(uint8_t family, const char* table, const char* chain);
  void add_rule(const NftRule& rule);  // at the end of its chain
  void delete_rule(uint8_t family, const char* table, const FoundRule& rule);

  bool is_empty() const { return batch_.is_empty(); }
  Status commit(NetlinkSocket& netlink) { return netlink.transact_atomically(batch_); }

 private:
  void add_base_chain(uint8_t family, const char* table, const char* chain, const char* type, uint32_t hook, int priority);

  NetlinkBatch batch_;
};

}  // namespace keelson
