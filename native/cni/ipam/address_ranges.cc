#include "cni/ipam/address_ranges.h"

#include "cni/config_object.h"

namespace keelson {

namespace {

std::string to_string(const AddressRange& range) { return to_string(range.first) + "-" + to_string(range.last); }

bool overlap(const AddressRange& one, const AddressRange& other) {
  return one.first.family == other.first.family && one.first <= other.last && other.first <= one.last;
}

Outcome<IpAddress> end_of_range(ConfigObject& object, const char* key, const IpPrefix& subnet,
                                const IpAddress& otherwise) {
  IpAddress address = TRY(object.address(key));
  if (!address) return otherwise;
  if (contains(subnet, address)) return address;
  return misconfigured(object.path_of(key) + " " + to_string(address) + " not in network " + to_string(subnet));
}

// Excludes the IPv4 broadcast address.
IpAddress last_host(const IpPrefix& subnet) {
  IpAddress last = last_of(subnet);
  if (last.is_v4()) last.bytes[3] &= 0xfe;
  return last;
}

}  // namespace

bool AddressRange::holds(const IpAddress& address) const {
  return address.family == first.family && address >= first && address <= last;
}

std::string to_string(const RangeSet& set) {
  std::string text;
  for (const AddressRange& range : set) text += (text.empty() ? "" : ",") + to_string(range);
  return text;
}

const AddressRange* range_of(const RangeSet& set, const IpAddress& address) {
  for (const AddressRange& range : set) {
    if (range.holds(address)) return &range;
  }
  return nullptr;
}

Outcome<AddressRange> parse_range(const Json& json, const std::string& path) {
  ConfigObject object(json, path);
  std::string text = TRY(object.text("subnet"));
  std::optional<IpPrefix> subnet = parse_prefix(text);
  if (!subnet) return misconfigured(object.path_of("subnet") + " must be a network, not \"" + text + "\"");
  if (subnet->length > subnet->address.bits() - 2) {
    return misconfigured("Network " + text + " too small to allocate from");
  }
  if (network_of(*subnet) != subnet->address) {
    return misconfigured("Network has host bits set. For a subnet mask of length " + std::to_string(subnet->length) +
                         " the network address is " + to_string(network_of(*subnet)));
  }
  AddressRange range;
  range.subnet = *subnet;
  range.gateway = TRY(object.address("gateway"));
  if (!range.gateway) range.gateway = next(subnet->address);
  range.first = TRY(end_of_range(object, "rangeStart", *subnet, next(subnet->address)));
  range.last = TRY(end_of_range(object, "rangeEnd", *subnet, last_host(*subnet)));
  if (range.last < range.first) return misconfigured(object.path_of("rangeEnd") + " is before rangeStart");
  return range;
}

Outcome<RangeSet> parse_range_set(const Json& json, const std::string& path) {
  if (!json.is_array() || json.items().empty()) return misconfigured(path + " must be an array of ranges, not empty");
  RangeSet set;
  for (const Json& item : json.items()) set.push_back(TRY(parse_range(item, path)));
  return set;
}

Done check_range_sets(const std::vector<RangeSet>& sets) {
  std::vector<const AddressRange*> all;
  for (const RangeSet& set : sets) {
    for (const AddressRange& range : set) {
      if (range.first.family != set.front().first.family) return misconfigured("mixed address families in a range set");
      for (const AddressRange* other : all) {
        if (overlap(range, *other)) {
          return misconfigured("ranges " + to_string(range) + " and " + to_string(*other) + " overlap");
        }
      }
      all.push_back(&range);
    }
  }
  return {};
}

RangeWalk::RangeWalk(const RangeSet& set, const IpAddress& after) : set_(set) {
  for (size_t i = 0; i < set.size(); ++i) {
    if (!set[i].holds(after)) continue;
    range_ = i;
    current_ = after;
  }
}

void RangeWalk::step() {
  if (!current_) {
    current_ = set_[range_].first;
  } else if (current_ == set_[range_].last) {
    range_ = (range_ + 1) % set_.size();
    current_ = set_[range_].first;
  } else {
    current_ = keelson::next(current_);
  }
}

const AddressRange* RangeWalk::next(IpAddress& address) {
  for (;;) {
    step();
    if (current_ == began_at_) return nullptr;
    if (!began_at_) began_at_ = current_;
    if (current_ == set_[range_].gateway) continue;
    address = current_;
    return &set_[range_];
  }
}

}  // namespace keelson
