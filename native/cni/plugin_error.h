// The error that a plugin returns: CNI spec 1.1.0, section 5, "Error".
//
// `Outcome<T>` is a value or a PluginError; TRY also converts an Error of common/ to one.
#pragma once

#include <expected>
#include <string>

#include "common/error.h"

namespace keelson {

// The spec's codes.
enum class ErrorCode : unsigned {
  incompatible_version = 1,
  unsupported_field = 2,
  invalid_environment = 4,
  io_failure = 5,
  decoding_failure = 6,
  invalid_configuration = 7,
  invalid_namespace = 8,
  try_again_later = 11,
  internal = 999,
};

struct PluginError {
  ErrorCode code = ErrorCode::internal;
  std::string message;
  std::string details;

  PluginError(ErrorCode code, std::string message, std::string details = {});
  // Implicit, for TRY. Code `try_again_later` for a timeout or a busy lock, otherwise `internal`.
  PluginError(const Error& error);
};

template <typename T>
using Outcome = std::expected<T, PluginError>;
using Done = std::expected<void, PluginError>;

std::unexpected<PluginError> refuse(ErrorCode code, std::string message, std::string details = {});
// The configuration is invalid, or requests something that this plugin does not support.
std::unexpected<PluginError> misconfigured(std::string message);
std::unexpected<PluginError> unsupported(std::string message);

// The error object, in the configuration's version.
std::string to_json(const PluginError& error, const std::string& version);

}  // namespace keelson
