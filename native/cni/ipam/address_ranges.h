// The address ranges of a configuration, from which host-local allocates.
#pragma once

#include <string>
#include <vector>

#include "cni/ip_address.h"
#include "cni/plugin_error.h"
#include "common/json.h"

namespace keelson {

// Complete: what the configuration omits has the defaults of the reference host-local.
struct AddressRange {
  IpPrefix subnet;
  IpAddress first;
  IpAddress last;
  IpAddress gateway;

  bool holds(const IpAddress& address) const;
};

// Non-overlapping ranges of one family, from which one address is allocated.
using RangeSet = std::vector<AddressRange>;

std::string to_string(const RangeSet& set);

// The range of the set that contains the address, or null.
const AddressRange* range_of(const RangeSet& set, const IpAddress& address);

// Parses `subnet`, `rangeStart`, `rangeEnd` and `gateway` of `json`.
Outcome<AddressRange> parse_range(const Json& json, const std::string& path);
// Parses an array of ranges.
Outcome<RangeSet> parse_range_set(const Json& json, const std::string& path);
// Refuses sets of mixed families and overlapping ranges.
Done check_range_sets(const std::vector<RangeSet>& sets);

// Iterates over the addresses of a set except gateways: from the one after `after` (or from the start, if it is not in the
// set), wrapping around to where it began.
class RangeWalk {
 public:
  RangeWalk(const RangeSet& set, const IpAddress& after);
  // The next address and its range; null after the last.
  const AddressRange* next(IpAddress& address);

 private:
  void step();

  const RangeSet& set_;
  size_t range_ = 0;
  IpAddress current_;
  IpAddress began_at_;
};

}  // namespace keelson
