#include "cni/plugin_error.h"

#include <utility>

#include "common/json.h"

namespace keelson {

PluginError::PluginError(ErrorCode error_code, std::string text, std::string more)
    : code(error_code), message(std::move(text)), details(std::move(more)) {}

PluginError::PluginError(const Error& error)
    : code(error.kind == Kind::timeout || error.kind == Kind::busy ? ErrorCode::try_again_later : ErrorCode::internal),
      message(error.message()) {}

std::unexpected<PluginError> refuse(ErrorCode code, std::string message, std::string details) {
  return std::unexpected(PluginError(code, std::move(message), std::move(details)));
}

std::unexpected<PluginError> misconfigured(std::string message) {
  return refuse(ErrorCode::invalid_configuration, std::move(message));
}

std::unexpected<PluginError> unsupported(std::string message) {
  return refuse(ErrorCode::unsupported_field, std::move(message));
}

std::string to_json(const PluginError& error, const std::string& version) {
  JsonWriter json;
  json.begin_object();
  json.key("cniVersion").value(version);
  json.key("code").value(static_cast<int64_t>(error.code));
  json.key("msg").value(error.message);
  if (!error.details.empty()) json.key("details").value(error.details);
  json.end_object();
  return json.take() + "\n";
}

}  // namespace keelson
