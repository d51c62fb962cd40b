// One object of a network configuration, read by key. A wrong type is refused with its path; a key that was never read is a
// setting that the plugin does not support.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cni/ip_address.h"
#include "cni/plugin_error.h"
#include "common/json.h"

namespace keelson {

// The object's member of that name, or else of the same name in another letter case: the reference CNI plugins accept those
// too, and containerd writes some like that ("HostPort").
const Json& find_member(const Json& object, std::string_view key);

class ConfigObject {
 public:
  // `path` is for errors: "ipam", or "" for the configuration itself. `json` must outlive this.
  ConfigObject(const Json& json, std::string path) : json_(json), path_(std::move(path)) {}

  // A null member counts as absent, as everywhere in CNI.
  const Json& member(std::string_view key);
  Outcome<bool> boolean(std::string_view key, bool otherwise = false);
  Outcome<int64_t> integer(std::string_view key, int64_t least, int64_t most, int64_t otherwise);
  Outcome<std::string> text(std::string_view key);
  Outcome<std::vector<std::string>> texts(std::string_view key);
  Outcome<IpAddress> address(std::string_view key);  // no address when absent
  Outcome<const std::vector<Json>*> items(std::string_view key);

  // Fails with `unsupported_field` if a key was never read and requests something: false, 0 and empty values request
  // nothing.
  Done refuse_others() const;

  std::string path_of(std::string_view key) const;

 private:
  std::unexpected<PluginError> wrong_type(std::string_view key, const char* wanted) const;

  const Json& json_;
  std::string path_;
  std::vector<std::string_view> read_;
};

}  // namespace keelson
