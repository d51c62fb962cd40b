// Reads config.json and rootfs.json into the plain values of spec.h, and refuses invalid values.
// Sources: linux/capability.h, capabilities(7), mount(8), runtime-spec config.md "Linux mount options".
#include "monitor/setup/spec.h"

#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mount.h>

#include <algorithm>
#include <climits>

#include "common/overlayfs.h"

namespace keelson {

namespace {

// In the order of their numbers, without the CAP_ prefix.
constexpr std::string_view capability_names[] = {
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
static_assert(std::size(capability_names) == CAP_LAST_CAP + 1);

// The options that the daemon writes (pod/spec/mounts.ts); any other option is passed to the file system.
constexpr struct MountOption {
  std::string_view name;
  uint64_t set, cleared;  // MS_*
} mount_options[] = {
    {"ro", MS_RDONLY, 0},
    {"rw", 0, MS_RDONLY},
    {"nosuid", MS_NOSUID, 0},
    {"nodev", MS_NODEV, 0},
    {"noexec", MS_NOEXEC, 0},
    {"relatime", MS_RELATIME, 0},
    {"strictatime", MS_STRICTATIME, 0},
    {"bind", MS_BIND, 0},
    {"rbind", MS_BIND | MS_REC, 0},
};

// "CAP_NET_RAW" → its bit number; -1 for an unknown name.
int capability_number(std::string_view name) {
  if (!name.starts_with("CAP_")) return -1;
  name.remove_prefix(4);
  for (size_t number = 0; number < std::size(capability_names); ++number) {
    if (capability_names[number] == name) return static_cast<int>(number);
  }
  return -1;
}

// "rslave" → MS_SLAVE | MS_REC; 0 if it is not a propagation option.
uint64_t propagation_flags(std::string_view word) {
  static constexpr struct {
    std::string_view name;
    uint64_t flags;
  } words[] = {
      {"rprivate", MS_PRIVATE | MS_REC}, {"rslave", MS_SLAVE | MS_REC}, {"rshared", MS_SHARED | MS_REC},
  };
  for (const auto& known : words) {
    if (known.name == word) return known.flags;
  }
  return 0;
}

void apply_mount_option(std::string option, MountSpec& mount) {
  if (uint64_t propagation = propagation_flags(option)) {
    mount.propagation = propagation;
  } else if (option == "rro") {
    mount.recursive_readonly = true;
  } else if (auto known = std::ranges::find(mount_options, option, &MountOption::name); known != std::end(mount_options)) {
    // The last option for a flag wins, as with mount(8).
    mount.flags = (mount.flags & ~known->cleared) | known->set;
    mount.cleared_flags = (mount.cleared_flags & ~known->set) | known->cleared;
  } else {
    mount.data.push_back(std::move(option));
  }
}

std::unexpected<Error> bad(std::string detail) { return fail(Kind::invalid, "read config.json", std::move(detail)); }

// Keeps the first error, so that the functions below can be plain assignments.
class Reader {
 public:
  // A string that will be passed to the kernel: a NUL inside would silently truncate it.
  std::string text(const Json& json, const char* what) {
    std::string_view value = json.string();
    if (value.find('\0') != value.npos) refuse(std::string(what) + " contains a NUL byte");
    return std::string(value);
  }

  std::string path(const Json& json, const char* what) {
    std::string value = text(json, what);
    if (!value.starts_with('/')) refuse(std::string(what) + " \"" + value + "\" is not an absolute path");
    if (value.size() >= PATH_MAX) refuse(std::string(what) + " is too long for a path");
    return value;
  }

  std::vector<std::string> texts(const Json& json, const char* what) {
    std::vector<std::string> all;
    for (const Json& item : json.items()) all.push_back(text(item, what));
    return all;
  }

  std::string label(const Json& json, const char* what) {
    std::string value = text(json, what);
    if (!is_label(value)) refuse(std::string(what) + " \"" + value + "\" is not an SELinux label");
    return value;
  }

  // An id: the kernel reserves 2^32 - 1 for "no id".
  uint32_t id(const Json& json, const char* what) { return static_cast<uint32_t>(number(json, what, UINT32_MAX - 1)); }

  int64_t number(const Json& json, const char* what, int64_t maximum) {
    int64_t value = json.integer(json.is_null() ? 0 : -1);
    if (value >= 0 && value <= maximum) return value;
    refuse(std::string(what) + " is not a number from 0 to " + std::to_string(maximum));
    return 0;
  }

  void refuse(std::string why) {
    if (why_.empty()) why_ = std::move(why);
  }
  const std::string& refusal() const { return why_; }

 private:
  std::string why_;
};

uint64_t capability_set(Reader& reader, const Json& names) {
  uint64_t set = 0;
  for (const Json& name : names.items()) {
    int number = capability_number(name.string());
    if (number < 0) reader.refuse("unknown capability \"" + std::string(name.string()) + "\"");
    else set |= uint64_t{1} << number;
  }
  return set;
}

CommandSpec read_command(Reader& reader, const Json& process) {
  CommandSpec command;
  command.args = reader.texts(process["args"], "process.args");
  if (command.args.empty()) reader.refuse("process.args is empty");
  command.terminal = process["terminal"].boolean();
  return command;
}

ProcessSpec read_process(Reader& reader, const Json& json) {
  ProcessSpec process;
  const Json& user = json["user"];
  process.uid = reader.id(user["uid"], "user.uid");
  process.gid = reader.id(user["gid"], "user.gid");
  for (const Json& group : user["additionalGids"].items()) {
    process.groups.push_back(reader.id(group, "user.additionalGids"));
  }
  process.env = reader.texts(json["env"], "process.env");
  process.cwd = reader.path(json["cwd"], "process.cwd");
  const Json& capabilities = json["capabilities"];
  process.capabilities.bounding = capability_set(reader, capabilities["bounding"]);
  process.capabilities.effective = capability_set(reader, capabilities["effective"]);
  process.capabilities.inheritable = capability_set(reader, capabilities["inheritable"]);
  process.capabilities.permitted = capability_set(reader, capabilities["permitted"]);
  process.capabilities.ambient = capability_set(reader, capabilities["ambient"]);
  process.no_new_privileges = json["noNewPrivileges"].boolean();
  for (const Json& limit : json["rlimits"].items()) {
    if (limit["type"].string() != "RLIMIT_NOFILE") continue;
    const int64_t soft = limit["soft"].integer(), hard = limit["hard"].integer();
    if (soft < 1 || soft > hard) reader.refuse("the soft limit in process.rlimits is not from 1 to the hard limit");
    process.open_files = {static_cast<rlim_t>(soft), static_cast<rlim_t>(hard)};
  }
  if (!json["oomScoreAdj"].is_null()) {
    int64_t score = json["oomScoreAdj"].integer();
    if (score < -1000 || score > 1000) reader.refuse("process.oomScoreAdj is not a number from -1000 to 1000");
    process.oom_score_adj = static_cast<int>(score);
  }
  process.apparmor_profile = reader.text(json["apparmorProfile"], "process.apparmorProfile");
  process.selinux_label = reader.label(json["selinuxLabel"], "process.selinuxLabel");
  return process;
}

std::vector<IdMapping> read_mappings(Reader& reader, const Json& json, const char* what) {
  std::vector<IdMapping> mappings;
  for (const Json& item : json.items()) {
    mappings.push_back({reader.id(item["containerID"], what), reader.id(item["hostID"], what),
                        reader.id(item["size"], what)});
  }
  return mappings;
}

MountSpec read_mount(Reader& reader, const Json& json) {
  MountSpec mount;
  mount.destination = reader.path(json["destination"], "a mount's destination");
  mount.type = reader.text(json["type"], "a mount's type");
  mount.source = reader.text(json["source"], "a mount's source");
  if (mount.type == "bind") mount.flags |= MS_BIND;
  for (const Json& option : json["options"].items()) {
    apply_mount_option(reader.text(option, "a mount option"), mount);
  }
  mount.uid_mappings = read_mappings(reader, json["uidMappings"], "a mount's uidMappings");
  mount.gid_mappings = read_mappings(reader, json["gidMappings"], "a mount's gidMappings");
  if ((mount.flags & MS_BIND) && !mount.source.starts_with('/')) {
    reader.refuse("the source of the bind mount on " + mount.destination + " is not an absolute path");
  }
  if (mount.destination.find_first_not_of("/.") == mount.destination.npos) {
    reader.refuse("a mount's destination is the container's root");
  }
  return mount;
}

NamespaceSpec read_namespace(Reader& reader, const Json& json) {
  static constexpr struct {
    std::string_view name;
    int flag;
  } kinds[] = {{"pid", CLONE_NEWPID},   {"network", CLONE_NEWNET}, {"mount", CLONE_NEWNS},  {"ipc", CLONE_NEWIPC},
               {"uts", CLONE_NEWUTS},   {"user", CLONE_NEWUSER},   {"cgroup", CLONE_NEWCGROUP}};
  NamespaceSpec space;
  for (const auto& kind : kinds) {
    if (kind.name == json["type"].string()) space.flag = kind.flag;
  }
  if (space.flag == 0) {
    reader.refuse("the namespace type \"" + std::string(json["type"].string()) + "\" is not supported");
  }
  if (!json["path"].is_null()) space.path = reader.path(json["path"], "a namespace's path");
  return space;
}

DeviceSpec read_device(Reader& reader, const Json& json) {
  DeviceSpec device;
  device.path = reader.path(json["path"], "a device's path");
  std::string_view type = json["type"].string();
  if (type != "c" && type != "b") reader.refuse("the type of the device " + device.path + " is not c or b");
  else device.type = type[0];
  device.major = reader.number(json["major"], "a device's major number", INT32_MAX);
  device.minor = reader.number(json["minor"], "a device's minor number", INT32_MAX);
  if (!json["fileMode"].is_null()) {
    device.mode = static_cast<mode_t>(reader.number(json["fileMode"], "a device's fileMode", 07777));
  }
  device.uid = reader.id(json["uid"], "a device's uid");
  device.gid = reader.id(json["gid"], "a device's gid");
  return device;
}

std::vector<std::string> read_paths(Reader& reader, const Json& json, const char* what) {
  std::vector<std::string> paths;
  for (const Json& item : json.items()) paths.push_back(reader.path(item, what));
  return paths;
}

// The layers of an overlay, top first.
std::vector<std::string> read_layers(Reader& reader, const Json& json) {
  const size_t count = json.items().size();
  if (count == 0) reader.refuse("\"lower\" is empty");
  if (count > most_overlay_layers) {
    reader.refuse("\"lower\" names " + std::to_string(count) + " directories, but overlayfs supports at most " +
                  std::to_string(most_overlay_layers));
  }
  return read_paths(reader, json, "a lower directory");
}

// The other flags concern processes with several threads, which no process has at its start.
uint32_t read_seccomp_flags(const Json& names) {
  uint32_t flags = 0;
  for (const Json& name : names.items()) {
    if (name.string() == "SECCOMP_FILTER_FLAG_LOG") flags |= SECCOMP_FILTER_FLAG_LOG;
    if (name.string() == "SECCOMP_FILTER_FLAG_SPEC_ALLOW") flags |= SECCOMP_FILTER_FLAG_SPEC_ALLOW;
  }
  return flags;
}

}  // namespace

std::vector<std::string> with_terminal_kind(std::vector<std::string> env) {
  const bool is_told = std::ranges::any_of(env, [](const std::string& entry) { return entry.starts_with("TERM="); });
  if (!is_told) env.emplace_back("TERM=xterm");
  return env;
}

bool is_label(std::string_view text) {
  constexpr size_t longest = 4096;  // of a context, security/selinux/include/security.h has a page
  return text.size() < longest && std::ranges::all_of(text, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           std::string_view("_-.:,").find(c) != std::string_view::npos;
  });
}

Result<ContainerSpec> parse_spec(std::string_view config_json) {
  const Json root = TRY(about(parse_json(config_json), "config.json"));
  const Json& linux_part = root["linux"];
  Reader reader;

  ContainerSpec spec;
  spec.command = read_command(reader, root["process"]);
  spec.process = read_process(reader, root["process"]);
  spec.readonly_root = root["root"]["readonly"].boolean();
  if (std::string_view word = linux_part["rootfsPropagation"].string(); !word.empty()) {
    spec.root_propagation = propagation_flags(word);
    if (spec.root_propagation == 0) reader.refuse("unknown rootfsPropagation \"" + std::string(word) + "\"");
  }
  for (const Json& item : root["mounts"].items()) spec.mounts.push_back(read_mount(reader, item));
  for (const Json& item : linux_part["namespaces"].items()) spec.namespaces.push_back(read_namespace(reader, item));
  for (const Json& item : linux_part["devices"].items()) spec.devices.push_back(read_device(reader, item));
  spec.masked_paths = read_paths(reader, linux_part["maskedPaths"], "a masked path");
  spec.readonly_paths = read_paths(reader, linux_part["readonlyPaths"], "a read-only path");
  spec.mount_label = reader.label(linux_part["mountLabel"], "linux.mountLabel");
  spec.cgroups_path = reader.text(linux_part["cgroupsPath"], "cgroupsPath");
  spec.resources = linux_part["resources"];
  spec.has_seccomp = linux_part["seccomp"].is_object();
  spec.seccomp_flags = read_seccomp_flags(linux_part["seccomp"]["flags"]);

  if (!reader.refusal().empty()) return bad(reader.refusal());
  return spec;
}

Result<RootfsSpec> parse_rootfs(std::string_view rootfs_json) {
  const Json root = TRY(about(parse_json(rootfs_json), "rootfs.json"));
  Reader reader;
  RootfsSpec rootfs;
  rootfs.lower = read_layers(reader, root["lower"]);
  if (!root["upper"].is_null()) {
    rootfs.upper = reader.path(root["upper"], "the upper directory");
    rootfs.work = reader.path(root["work"], "the work directory");
  }
  for (const Json& item : root["images"].items()) {
    ImageView image;
    image.mountpoint = reader.path(item["mountpoint"], "an image's mountpoint");
    image.lower = read_layers(reader, item["lower"]);
    image.sub_path = reader.text(item["sub_path"], "an image's sub path");
    rootfs.images.push_back(std::move(image));
  }
  rootfs.directories = read_paths(reader, root["directories"], "a directory of the root");
  if (!reader.refusal().empty()) return fail(Kind::invalid, "read rootfs.json", reader.refusal());
  return rootfs;
}

}  // namespace keelson
