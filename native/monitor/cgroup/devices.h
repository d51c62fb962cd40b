// Which devices a cgroup may use: the rules of OCI linux.resources.devices, of which the last match wins. cgroup v1
// takes them as lines of two files; v2 has no files for them and needs a BPF program on the cgroup.
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

// The spec's rules, followed by those for the devices that every container has (runtime-spec "Default Devices") unless
// the spec's already grant them.
Result<std::vector<DeviceRule>> parse_device_rules(const Json& devices);

// "c 1:3 rwm", the format of devices.allow and devices.deny on cgroup v1.
std::string to_v1_line(const DeviceRule& rule);

// Replaces any device programs of a v2 cgroup by one generated from the rules.
Status attach_device_filter(int cgroup, const std::vector<DeviceRule>& rules);

}  // namespace keelson
