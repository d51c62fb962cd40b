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

// In the order of their age; the last is what an answer without a configuration is written in.
constexpr std::string_view supported_versions[] = {"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"};

// An attachment that GC leaves alone.
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

  // ADD and CHECK need all that the configuration asks for; DEL and GC clear up whatever it says.
  bool is_strict() const { return command != Command::del && command != Command::gc; }
};

// Reads the environment, and standard input to its end: as far as that comes within seconds and is a few megabytes.
// `version` is set as soon as it is known, for the answer to an error.
Outcome<Invocation> read_invocation(std::string& version);

// The attachments that a GC names as still valid.
Outcome<std::vector<Attachment>> valid_attachments(const Invocation& invocation);

}  // namespace keelson
