#include "monitor/pod/sandbox_spec.h"

#include <algorithm>

namespace keelson {

namespace {

std::unexpected<Error> bad(std::string why) { return fail(Kind::invalid, "read sandbox.json", std::move(why)); }

Result<Scope> read_scope(const Json& namespaces, const char* name, bool may_be_container) {
  std::string_view word = namespaces[name].string();
  if (word == "pod") return Scope::pod;
  if (word == "host") return Scope::host;
  if (word == "container" && may_be_container) return Scope::container;
  return bad("namespaces." + std::string(name) + " is \"" + std::string(word) + "\"");
}

bool overlap(uint32_t a, uint32_t b, const IdMapping& one, const IdMapping& other) {
  return a < uint64_t{b} + other.size && b < uint64_t{a} + one.size;
}

bool overlap(const IdMapping& one, const IdMapping& other) {
  return overlap(one.container, other.container, one, other) || overlap(one.host, other.host, one, other);
}

Result<std::vector<IdMapping>> read_mappings(const Json& json) {
  std::vector<IdMapping> mappings;
  for (const Json& item : json.items()) {
    int64_t inside = item["container"].integer(-1), outside = item["host"].integer(-1), size = item["size"].integer();
    auto fits = [size](int64_t first) { return first >= 0 && first <= UINT32_MAX - size; };
    if (size <= 0 || size > UINT32_MAX || !fits(inside) || !fits(outside)) {
      return bad("an id mapping is not a valid range of ids");
    }
    if (outside == 0) return bad("an id mapping includes the host's root");
    IdMapping mapping{static_cast<uint32_t>(inside), static_cast<uint32_t>(outside), static_cast<uint32_t>(size)};
    if (std::ranges::any_of(mappings, [&](const IdMapping& other) { return overlap(mapping, other); })) {
      return bad("two id mappings overlap");
    }
    mappings.push_back(mapping);
  }
  return mappings;
}

bool is_pod_id(std::string_view id) {
  return !id.empty() && id.size() <= 64 && std::ranges::all_of(id, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
  });
}

}  // namespace

Sysctls read_sysctls(const Json& json) {
  Sysctls sysctls;
  for (const auto& [name, value] : json.members()) sysctls.emplace_back(name, value.string());
  return sysctls;
}

Result<SandboxSpec> parse_sandbox(std::string_view sandbox_json) {
  const Json root = TRY(about(parse_json(sandbox_json), "sandbox.json"));
  if (root["version"].integer() != 1) return bad("its version is not 1");

  SandboxSpec spec;
  spec.id = root["id"].string();
  if (!is_pod_id(spec.id)) return bad("its id is not 1 to 64 lower-case hexadecimal digits");
  spec.hostname = root["hostname"].string();
  if (spec.hostname.size() > 64) return bad("its hostname is longer than 64 bytes");
  if (spec.hostname.find('\0') != std::string::npos) return bad("its hostname contains a NUL character");

  const struct {
    const char* name;
    Scope SandboxSpec::*scope;
    bool may_be_container;
  } scopes[] = {{"net", &SandboxSpec::net, false},
                {"ipc", &SandboxSpec::ipc, false},
                {"uts", &SandboxSpec::uts, false},
                {"pid", &SandboxSpec::pid, true}};
  for (const auto& known : scopes) {
    spec.*known.scope = TRY(read_scope(root["namespaces"], known.name, known.may_be_container));
  }

  spec.uid_mappings = TRY(read_mappings(root["user"]["uids"]));
  spec.gid_mappings = TRY(read_mappings(root["user"]["gids"]));
  if (spec.uid_mappings.empty() != spec.gid_mappings.empty()) return bad("a user namespace needs both uids and gids");

  spec.netns = root["netns"].string();
  if (!spec.netns.empty() && spec.netns[0] != '/') return bad("netns is not an absolute path");
  spec.sysctls = read_sysctls(root["sysctls"]);
  if (!root["shm_size"].is_null()) {
    if (root["shm_size"].integer() <= 0) return bad("shm_size is not a number of bytes");
    spec.shm_size = static_cast<uint64_t>(root["shm_size"].integer());
  }
  spec.process_label = root["process_label"].string();
  spec.mount_label = root["mount_label"].string();
  if (!is_label(spec.process_label)) return bad("process_label is not an SELinux label");
  if (!is_label(spec.mount_label)) return bad("mount_label is not an SELinux label");
  spec.hierarchies = TRY(about(CgroupHost::parse(root["cgroup_hierarchies"]), "sandbox.json"));
  spec.cgroup = root["cgroup"].string();
  spec.own_cgroup = root["own_cgroup"].boolean();
  return spec;
}

}  // namespace keelson
