#include "cni/config_object.h"

#include <algorithm>
#include <cctype>

namespace keelson {

namespace {

bool requests_nothing(const Json& value) {
  switch (value.type()) {
    case Json::Type::null: return true;
    case Json::Type::boolean: return !value.boolean();
    case Json::Type::integer: return value.integer() == 0;
    case Json::Type::real: return false;
    case Json::Type::string: return value.string().empty();
    case Json::Type::array: return value.items().empty();
    case Json::Type::object: return value.members().empty();
  }
  return false;
}

bool is_same_key(std::string_view one, std::string_view other) {
  return std::ranges::equal(one, other,
                            [](unsigned char a, unsigned char b) { return std::tolower(a) == std::tolower(b); });
}

// Keys in the configuration files of kubenet and minikube, and of Debian, that no plugin has ever read.
bool is_never_read(std::string_view key) { return is_same_key(key, "addIf") || is_same_key(key, "Documentation"); }

}  // namespace

const Json& find_member(const Json& object, std::string_view key) {
  const Json& exact = object[key];
  if (!exact.is_null()) return exact;
  for (const auto& [name, value] : object.members()) {
    if (is_same_key(name, key)) return value;
  }
  return exact;
}

const Json& ConfigObject::member(std::string_view key) {
  read_.push_back(key);
  return find_member(json_, key);
}

Outcome<bool> ConfigObject::boolean(std::string_view key, bool otherwise) {
  const Json& value = member(key);
  if (value.is_null()) return otherwise;
  if (value.type() != Json::Type::boolean) return wrong_type(key, "true or false");
  return value.boolean();
}

Outcome<int64_t> ConfigObject::integer(std::string_view key, int64_t least, int64_t most, int64_t otherwise) {
  const Json& value = member(key);
  if (value.is_null()) return otherwise;
  if (value.type() != Json::Type::integer || value.integer() < least || value.integer() > most) {
    return misconfigured(path_of(key) + " must be a whole number from " + std::to_string(least) + " to " +
                         std::to_string(most));
  }
  return value.integer();
}

Outcome<std::string> ConfigObject::text(std::string_view key) {
  const Json& value = member(key);
  if (value.is_null()) return std::string();
  if (!value.is_string()) return wrong_type(key, "a string");
  return std::string(value.string());
}

Outcome<std::vector<std::string>> ConfigObject::texts(std::string_view key) {
  std::vector<std::string> all;
  for (const Json& item : *TRY(items(key))) {
    if (!item.is_string()) return wrong_type(key, "an array of strings");
    all.emplace_back(item.string());
  }
  return all;
}

Outcome<IpAddress> ConfigObject::address(std::string_view key) {
  std::string written = TRY(text(key));
  if (written.empty()) return IpAddress();
  std::optional<IpAddress> address = parse_address(written);
  if (!address) return wrong_type(key, "an IP address");
  return *address;
}

Outcome<const std::vector<Json>*> ConfigObject::items(std::string_view key) {
  const Json& value = member(key);
  if (!value.is_null() && !value.is_array()) return wrong_type(key, "an array");
  return &value.items();
}

Done ConfigObject::refuse_others() const {
  for (const auto& [key, value] : json_.members()) {
    bool is_read = std::ranges::any_of(read_, [&](std::string_view one) { return is_same_key(one, key); });
    if (is_read || is_never_read(key) || requests_nothing(value)) continue;
    return unsupported(path_of(key) + " is not supported by this plugin");
  }
  return {};
}

std::string ConfigObject::path_of(std::string_view key) const {
  return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
}

std::unexpected<PluginError> ConfigObject::wrong_type(std::string_view key, const char* wanted) const {
  return misconfigured(path_of(key) + " must be " + wanted);
}

}  // namespace keelson
