// The part of an OCI runtime spec (config.json) that the monitor executes, parsed
// once into plain values. Source: opencontainers/runtime-spec v1.2, config.md and
// config-linux.md. What the daemon never writes (pod/spec/) is not read.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"
#include "common/json.h"

namespace keelson {

// Bit n stands for capability n (linux/capability.h).
struct Capabilities {
  uint64_t bounding = 0;
  uint64_t effective = 0;
  uint64_t inheritable = 0;
  uint64_t permitted = 0;
  uint64_t ambient = 0;
};

// What a process runs, and on what: all in which an exec differs from its container's process.
struct CommandSpec {
  std::vector<std::string> args;
  bool terminal = false;
  uint16_t columns = 0;  // of the terminal, 0: unknown
  uint16_t rows = 0;
};

// What every process of a container has.
struct ProcessSpec {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
  std::vector<std::string> env;  // bytes, "NAME=value"
  std::string cwd;
  Capabilities capabilities;
  bool no_new_privileges = false;
  std::optional<rlimit> open_files;
  std::optional<int> oom_score_adj;
  std::string apparmor_profile;
  std::string selinux_label;
};

// Of an exec with a terminal: it tells that one's kind, as the daemon has a container's own tell it.
std::vector<std::string> with_terminal_kind(std::vector<std::string> env);

struct IdMapping {
  uint32_t container = 0;
  uint32_t host = 0;
  uint32_t size = 0;
  bool operator==(const IdMapping&) const = default;
};

struct MountSpec {
  std::string destination;
  std::string type;
  std::string source;
  uint64_t flags = 0;              // MS_* for the mount itself
  uint64_t cleared_flags = 0;      // MS_* that "rw" takes away
  uint64_t propagation = 0;        // MS_PRIVATE, MS_SLAVE … with MS_REC, 0 for none asked
  bool recursive_readonly = false;  // "rro": with all that is mounted below
  std::vector<std::string> data;   // what is left for the file system: "mode=755", "size=64k"
  std::vector<IdMapping> uid_mappings;
  std::vector<IdMapping> gid_mappings;
};

struct DeviceSpec {
  std::string path;
  char type = 'c';  // c, b
  int64_t major = 0;
  int64_t minor = 0;
  mode_t mode = 0666;
  uid_t uid = 0;
  gid_t gid = 0;
};

struct NamespaceSpec {
  int flag = 0;      // CLONE_NEW*
  std::string path;  // empty: make a new one
};

struct ContainerSpec {
  CommandSpec command;  // its init's
  ProcessSpec process;
  std::string mount_label;  // SELinux's, of what is mounted for the container; empty: none
  bool readonly_root = false;
  uint64_t root_propagation = 0;  // MS_*, 0 for the default (rprivate)
  std::vector<MountSpec> mounts;
  std::vector<NamespaceSpec> namespaces;
  std::vector<DeviceSpec> devices;
  std::vector<std::string> masked_paths;
  std::vector<std::string> readonly_paths;
  std::string cgroups_path;
  Json resources;  // linux.resources, read by cgroup.cc alone
  bool has_seccomp = false;
  uint32_t seccomp_flags = 0;  // SECCOMP_FILTER_FLAG_* that its filter is loaded with
};

// An image, or a part of it, shown read-only at a path that config.json binds into the container.
struct ImageView {
  std::string mountpoint;
  std::vector<std::string> lower;  // top first
  std::string sub_path;            // inside the image; empty: all of it
};

// What rootfs.json says (PROTOCOL.md).
struct RootfsSpec {
  std::vector<std::string> lower;  // top first
  std::string upper;
  std::string work;
  std::vector<ImageView> images;
  std::vector<std::string> directories;  // to be there before anything is mounted
};

// Whether a text is of the characters of SELinux labels, none of which ends an option of mount(2) or the quotes around it.
bool is_label(std::string_view text);

Result<ContainerSpec> parse_spec(std::string_view config_json);
Result<RootfsSpec> parse_rootfs(std::string_view rootfs_json);

}  // namespace keelson
