// Parsing device rules. Sources: config-linux.md (Allowed Device list), cgroup-v1/devices.rst.
#include "monitor/cgroup/device_rules.h"

namespace keelson {

namespace {

// Nodes of every container, its ptys and console; and making any node, which gives no access to it.
const DeviceRule rights[] = {
    {true, 'c', DeviceRule::any, DeviceRule::any, false, false, true},
    {true, 'b', DeviceRule::any, DeviceRule::any, false, false, true},
    {true, 'c', 1, 3, true, true, true},
    {true, 'c', 1, 5, true, true, true},
    {true, 'c', 1, 7, true, true, true},
    {true, 'c', 1, 8, true, true, true},
    {true, 'c', 1, 9, true, true, true},
    {true, 'c', 5, 0, true, true, true},
    {true, 'c', 5, 2, true, true, true},
    {true, 'c', 136, DeviceRule::any, true, true, true},
};

std::string number_or_star(int64_t number) { return number == DeviceRule::any ? "*" : std::to_string(number); }

}  // namespace

Result<std::vector<DeviceRule>> parse_device_rules(const Json& devices) {
  std::vector<DeviceRule> rules;
  for (const Json& item : devices.items()) {
    DeviceRule rule;
    rule.allow = item["allow"].boolean();
    std::string_view type = item["type"].string("a");
    if (type != "a" && type != "b" && type != "c") {
      return fail(Kind::invalid, "read the device rules", "\"" + std::string(type) + "\" is no type of a, b, c");
    }
    rule.type = type[0];
    rule.major = item["major"].integer(DeviceRule::any);
    rule.minor = item["minor"].integer(DeviceRule::any);
    for (char access : item["access"].string("rwm")) {
      if (access == 'r') rule.read = true;
      else if (access == 'w') rule.write = true;
      else if (access == 'm') rule.mknod = true;
      else return fail(Kind::invalid, "read the device rules", "access is of the letters r, w, m");
    }
    rules.push_back(rule);
  }
  rules.insert(rules.end(), std::begin(rights), std::end(rights));
  return rules;
}

std::string to_v1_line(const DeviceRule& rule) {
  // "a" stands for all devices and all access, whatever follows.
  if (rule.type == 'a') return "a";
  std::string line = {rule.type, ' '};
  line += number_or_star(rule.major) + ":" + number_or_star(rule.minor) + " ";
  if (rule.read) line += 'r';
  if (rule.write) line += 'w';
  if (rule.mknod) line += 'm';
  return line;
}

}  // namespace keelson
