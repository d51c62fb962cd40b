// How a runtime calls a plugin: parameters in the environment, the configuration on standard input (CNI spec 1.1.0,
// section 2).
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "cni/config_object.h"
#include "cni/plugin_error.h"
#include "common/json.h"

namespace keelson {

enum class Command { add, del, check, gc, status, version };

// Oldest first; the last is the version of answers to a call without a configuration.
constexpr std::string_view supported_versions[] = {"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"};

// An attachment that GC must keep.
struct Attachment {
  std::string container_id;
  std::string interface_name;
};

struct Invocation {
  Command command = Command::version;
  std::string container_id;
  std::string netns;  // a path; may be empty with DEL
  std::string interface_name;
  std::map<std::string, std::string> arguments;  // CNI_ARGS
  bool own_namespace_allowed = false;            // CNI_NETNS_OVERRIDE
  Json config;
  std::string network;  // the configuration's name
  std::string version;  // the configuration's cniVersion

  const Json& part(std::string_view key) const { return find_member(config, key); }

  // All commands except DEL and GC require the configuration to be valid and supported; those two clean up regardless.
  bool is_strict() const { return command != Command::del && command != Command::gc; }
};

// Reads the environment, and standard input to its end, up to 8 MiB and 10 seconds from the first byte. `version` is set as
// soon as it is known, for the error answer.
Outcome<Invocation> read_invocation(std::string& version);

// The attachments that a GC lists as valid.
Outcome<std::vector<Attachment>> valid_attachments(const Invocation& invocation);

}  // namespace keelson
