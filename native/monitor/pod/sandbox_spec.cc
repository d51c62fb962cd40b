// Reads sandbox.json (PROTOCOL.md, "Start").
#include <algorithm>

#include "common/json.h"
#include "monitor/pod/sandbox.h"

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
    if (inside < 0 || outside < 0 || size <= 0 || inside + size > UINT32_MAX || outside + size > UINT32_MAX) {
      return bad("an id mapping is not made of ids");
    }
    if (outside == 0) return bad("an id mapping holds the host's root");
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

Result<SandboxSpec> parse_sandbox(std::string_view sandbox_json) {
  Result<Json> parsed = parse_json(sandbox_json);
  if (!parsed) return about(parsed.error(), "sandbox.json");
  const Json& root = *parsed;
  if (root["version"].integer() != 1) return bad("its version is not 1");

  SandboxSpec spec;
  spec.id = root["id"].string();
  if (!is_pod_id(spec.id)) return bad("its id is not of hexadecimal digits");
  spec.hostname = root["hostname"].string();
  if (spec.hostname.size() > 64 || spec.hostname.find('\0') != std::string::npos) return bad("its hostname is too long");

  const struct {
    const char* name;
    Scope SandboxSpec::*scope;
    bool may_be_container;
  } scopes[] = {{"net", &SandboxSpec::net, false},
                {"ipc", &SandboxSpec::ipc, false},
                {"uts", &SandboxSpec::uts, false},
                {"pid", &SandboxSpec::pid, true}};
  for (const auto& known : scopes) {
    Result<Scope> scope = read_scope(root["namespaces"], known.name, known.may_be_container);
    if (!scope) return std::unexpected(scope.error());
    spec.*known.scope = *scope;
  }

  Result<std::vector<IdMapping>> uids = read_mappings(root["user"]["uids"]);
  if (!uids) return std::unexpected(uids.error());
  Result<std::vector<IdMapping>> gids = read_mappings(root["user"]["gids"]);
  if (!gids) return std::unexpected(gids.error());
  if (uids->empty() != gids->empty()) return bad("a user namespace needs both uids and gids");
  spec.uid_mappings = std::move(*uids);
  spec.gid_mappings = std::move(*gids);

  for (const auto& [name, value] : root["sysctls"].members()) spec.sysctls.emplace_back(name, value.string());
  if (!root["shm_size"].is_null()) {
    if (root["shm_size"].integer() <= 0) return bad("shm_size is not a number of bytes");
    spec.shm_size = static_cast<uint64_t>(root["shm_size"].integer());
  }
  spec.cgroup = root["cgroup"].string();
  spec.own_cgroup = root["own_cgroup"].boolean();
  return spec;
}

}  // namespace keelson
