// Capability names to bit numbers. Source: linux/capability.h, capabilities(7).
#include <linux/capability.h>

#include "monitor/setup/spec_names.h"

namespace keelson {

namespace {

// In the order of their numbers, without the CAP_ in front.
constexpr std::string_view names[] = {
    "CHOWN",           "DAC_OVERRIDE",  "DAC_READ_SEARCH", "FOWNER",         "FSETID",
    "KILL",            "SETGID",        "SETUID",          "SETPCAP",        "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN",       "NET_RAW",        "IPC_LOCK",
    "IPC_OWNER",       "SYS_MODULE",    "SYS_RAWIO",       "SYS_CHROOT",     "SYS_PTRACE",
    "SYS_PACCT",       "SYS_ADMIN",     "SYS_BOOT",        "SYS_NICE",       "SYS_RESOURCE",
    "SYS_TIME",        "SYS_TTY_CONFIG", "MKNOD",          "LEASE",          "AUDIT_WRITE",
    "AUDIT_CONTROL",   "SETFCAP",       "MAC_OVERRIDE",    "MAC_ADMIN",      "SYSLOG",
    "WAKE_ALARM",      "BLOCK_SUSPEND", "AUDIT_READ",      "PERFMON",        "BPF",
    "CHECKPOINT_RESTORE",
};
static_assert(std::size(names) == CAP_LAST_CAP + 1);

}  // namespace

int capability_number(std::string_view name) {
  if (!name.starts_with("CAP_")) return -1;
  name.remove_prefix(4);
  for (size_t number = 0; number < std::size(names); ++number) {
    if (names[number] == name) return static_cast<int>(number);
  }
  return -1;
}

}  // namespace keelson
