// The part of an OCI runtime spec (config.json) that the monitor implements, parsed once into plain values. Fields that
// the daemon never writes (pod/spec/) are not read. Source: opencontainers/runtime-spec v1.2, config.md and
// config-linux.md.
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

// The command of a process and its terminal: everything in which an exec differs from the container's init.
struct CommandSpec {
  std::vector<std::string> args;
  bool terminal = false;
  uint16_t columns = 0;  // of the terminal, 0: unknown
  uint16_t rows = 0;
};

// The settings shared by all processes of a container.
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

// The environment of an exec with a terminal: adds TERM if it is missing, as the daemon does for the container's init.
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
  uint64_t cleared_flags = 0;      // MS_* that "rw" clears
  uint64_t propagation = 0;        // MS_PRIVATE, MS_SLAVE … with MS_REC, 0 if not specified
  bool recursive_readonly = false;  // "rro": including all submounts
  std::vector<std::string> data;   // options for the file system: "mode=755", "size=64k"
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
  std::string path;  // empty: create a new one
};

struct ContainerSpec {
  CommandSpec command;  // of its init
  ProcessSpec process;
  std::string mount_label;  // SELinux label of what is mounted for the container; empty: none
  bool readonly_root = false;
  uint64_t root_propagation = 0;  // MS_*, 0 for the default (rprivate)
  std::vector<MountSpec> mounts;
  std::vector<NamespaceSpec> namespaces;
  std::vector<DeviceSpec> devices;
  std::vector<std::string> masked_paths;
  std::vector<std::string> readonly_paths;
  std::string cgroups_path;
  Json resources;  // linux.resources, interpreted only by monitor/cgroup
  bool has_seccomp = false;
  uint32_t seccomp_flags = 0;  // SECCOMP_FILTER_FLAG_* that its filter is loaded with
};

// An image, or a part of it, shown read-only at a path that config.json binds into the container.
struct ImageView {
  std::string mountpoint;
  std::vector<std::string> lower;  // top first
  std::string sub_path;            // inside the image; empty: all of it
};

// The content of rootfs.json (PROTOCOL.md).
struct RootfsSpec {
  std::vector<std::string> lower;  // top first
  std::string upper;
  std::string work;
  std::vector<ImageView> images;
  std::vector<std::string> directories;  // created before anything is mounted
};

// Whether a text has only the characters of SELinux labels, none of which can end a quoted option of mount(2).
bool is_label(std::string_view text);

Result<ContainerSpec> parse_spec(std::string_view config_json);
Result<RootfsSpec> parse_rootfs(std::string_view rootfs_json);

}  // namespace keelson
