// Sources: linux/capability.h, capabilities(7), mount(8), runtime-spec config.md "Linux mount options".
#include "monitor/setup/spec_words.h"

#include <linux/capability.h>
#include <sys/mount.h>

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

struct FlagOption {
  std::string_view name;
  uint64_t flag;   // MS_*
  bool clears;     // the option takes the flag away
};

constexpr FlagOption flag_options[] = {
    {"ro", MS_RDONLY, false},
    {"rw", MS_RDONLY, true},
    {"nosuid", MS_NOSUID, false},
    {"suid", MS_NOSUID, true},
    {"nodev", MS_NODEV, false},
    {"dev", MS_NODEV, true},
    {"noexec", MS_NOEXEC, false},
    {"exec", MS_NOEXEC, true},
    {"noatime", MS_NOATIME, false},
    {"atime", MS_NOATIME, true},
    {"nodiratime", MS_NODIRATIME, false},
    {"diratime", MS_NODIRATIME, true},
    {"relatime", MS_RELATIME, false},
    {"norelatime", MS_RELATIME, true},
    {"strictatime", MS_STRICTATIME, false},
    {"nostrictatime", MS_STRICTATIME, true},
    {"nosymfollow", MS_NOSYMFOLLOW, false},
    {"symfollow", MS_NOSYMFOLLOW, true},
    {"sync", MS_SYNCHRONOUS, false},
    {"async", MS_SYNCHRONOUS, true},
    {"dirsync", MS_DIRSYNC, false},
    {"bind", MS_BIND, false},
    {"rbind", MS_BIND | MS_REC, false},
    {"defaults", 0, false},
};

struct RecursiveOption {
  std::string_view name;
  uint64_t attribute;  // MOUNT_ATTR_*
  bool clears;
};

constexpr RecursiveOption recursive_options[] = {
    {"rro", MOUNT_ATTR_RDONLY, false},
    {"rrw", MOUNT_ATTR_RDONLY, true},
    {"rnosuid", MOUNT_ATTR_NOSUID, false},
    {"rsuid", MOUNT_ATTR_NOSUID, true},
    {"rnodev", MOUNT_ATTR_NODEV, false},
    {"rdev", MOUNT_ATTR_NODEV, true},
    {"rnoexec", MOUNT_ATTR_NOEXEC, false},
    {"rexec", MOUNT_ATTR_NOEXEC, true},
    {"rnodiratime", MOUNT_ATTR_NODIRATIME, false},
    {"rdiratime", MOUNT_ATTR_NODIRATIME, true},
    {"rnosymfollow", MOUNT_ATTR_NOSYMFOLLOW, false},
    {"rsymfollow", MOUNT_ATTR_NOSYMFOLLOW, true},
};

}  // namespace

int capability_number(std::string_view name) {
  if (!name.starts_with("CAP_")) return -1;
  name.remove_prefix(4);
  for (size_t number = 0; number < std::size(names); ++number) {
    if (names[number] == name) return static_cast<int>(number);
  }
  return -1;
}

uint64_t propagation_flags(std::string_view word) {
  static constexpr struct {
    std::string_view name;
    uint64_t flags;
  } words[] = {
      {"private", MS_PRIVATE},         {"rprivate", MS_PRIVATE | MS_REC},
      {"slave", MS_SLAVE},             {"rslave", MS_SLAVE | MS_REC},
      {"shared", MS_SHARED},           {"rshared", MS_SHARED | MS_REC},
      {"unbindable", MS_UNBINDABLE},   {"runbindable", MS_UNBINDABLE | MS_REC},
  };
  for (const auto& known : words) {
    if (known.name == word) return known.flags;
  }
  return 0;
}

bool apply_mount_option(std::string_view option, MountSpec& mount) {
  if (uint64_t propagation = propagation_flags(option)) {
    mount.propagation = propagation;
    return true;
  }
  for (const FlagOption& known : flag_options) {
    if (known.name != option) continue;
    // The last word on a flag wins, as with mount(8).
    (known.clears ? mount.cleared_flags : mount.flags) |= known.flag;
    (known.clears ? mount.flags : mount.cleared_flags) &= ~known.flag;
    return true;
  }
  for (const RecursiveOption& known : recursive_options) {
    if (known.name != option) continue;
    (known.clears ? mount.recursive_clear : mount.recursive_set) |= known.attribute;
    (known.clears ? mount.recursive_set : mount.recursive_clear) &= ~known.attribute;
    return true;
  }
  return false;
}

}  // namespace keelson
