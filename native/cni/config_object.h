// One object of a network configuration, read by key: wrong types are refused by their path, and what nobody asked
// for by key is a thing that the configuration wants and the plugin lacks.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cni/ip_address.h"
#include "cni/plugin_error.h"
#include "common/json.h"

namespace keelson {

// The object's member of that name; of that name in other letter case if there is none, for the field's plugins take
// those as well, and containerd writes some so ("HostPort").
const Json& find_member(const Json& object, std::string_view key);

class ConfigObject {
 public:
  // `path` is for errors: "ipam", or "" for the configuration itself. `json` must outlive this.
  ConfigObject(const Json& json, std::string path) : json_(json), path_(std::move(path)) {}

  // Absent and null are alike, as everywhere in CNI.
  const Json& member(std::string_view key);
  Outcome<bool> boolean(std::string_view key, bool otherwise = false);
  Outcome<int64_t> integer(std::string_view key, int64_t least, int64_t most, int64_t otherwise);
  Outcome<std::string> text(std::string_view key);
  Outcome<std::vector<std::string>> texts(std::string_view key);
  Outcome<IpAddress> address(std::string_view key);  // no address when absent
  Outcome<const std::vector<Json>*> items(std::string_view key);

  // Fails with `unsupported_field` if a key is left that was never read and asks for something: false, 0 and what is
  // empty ask for nothing.
  Done refuse_others() const;

  std::string path_of(std::string_view key) const;

 private:
  std::unexpected<PluginError> wrong_type(std::string_view key, const char* wanted) const;

  const Json& json_;
  std::string path_;
  std::vector<std::string_view> read_;
};

}  // namespace keelson
