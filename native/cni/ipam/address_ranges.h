// The ranges of addresses that host-local hands out, as a configuration gives them.
#pragma once

#include <string>
#include <vector>

#include "cni/ip_address.h"
#include "cni/plugin_error.h"
#include "common/json.h"

namespace keelson {

// All filled in: what the configuration leaves out has the defaults of the field's host-local.
struct AddressRange {
  IpPrefix subnet;
  IpAddress first;
  IpAddress last;
  IpAddress gateway;

  bool holds(const IpAddress& address) const;
};

// Ranges of one family, none overlapping another; one address of it is handed out.
using RangeSet = std::vector<AddressRange>;

std::string to_string(const RangeSet& set);

// The range of the set that the address is in; null for none.
const AddressRange* range_of(const RangeSet& set, const IpAddress& address);

// From `subnet`, `rangeStart`, `rangeEnd` and `gateway` of `json`.
Outcome<AddressRange> parse_range(const Json& json, const std::string& path);
// An array of those.
Outcome<RangeSet> parse_range_set(const Json& json, const std::string& path);
// Refuses sets of mixed families, and overlaps.
Done check_range_sets(const std::vector<RangeSet>& sets);

// The addresses of a set one after another, gateways left out: from the one behind `after` (from the start without one)
// round to where it began.
class RangeWalk {
 public:
  RangeWalk(const RangeSet& set, const IpAddress& after);
  // The next address and its range; null past the last.
  const AddressRange* next(IpAddress& address);

 private:
  void step();

  const RangeSet& set_;
  size_t range_ = 0;
  IpAddress current_;
  IpAddress began_at_;
};

}  // namespace keelson
