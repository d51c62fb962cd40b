// Which devices a cgroup may use: OCI linux.resources.devices as rules, the later one wins. cgroup v1 takes them
// as lines of two files; v2 has no files for them but a BPF program on the cgroup.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/json.h"

namespace keelson {

struct DeviceRule {
  static constexpr int64_t any = -1;
  bool allow = false;
  char type = 'a';  // a, b, c
  int64_t major = any;
  int64_t minor = any;
  bool read = false, write = false, mknod = false;

  bool operator==(const DeviceRule&) const = default;
};

// The spec's rules, and behind them what every container has by right (runtime-spec "Default Devices") and they do not
// grant already.
Result<std::vector<DeviceRule>> parse_device_rules(const Json& devices);

// "c 1:3 rwm", as devices.allow and devices.deny of cgroup v1 take it.
std::string to_v1_line(const DeviceRule& rule);

// Replaces the device programs of a v2 cgroup, if it has any, by one made from the rules.
Status attach_device_filter(int cgroup, const std::vector<DeviceRule>& rules);

}  // namespace keelson
