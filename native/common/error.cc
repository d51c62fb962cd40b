#include "common/error.h"

namespace keelson {

std::string_view to_string(Kind kind) {
  switch (kind) {
    case Kind::protocol: return "protocol";
    case Kind::busy: return "busy";
    case Kind::not_found: return "not_found";
    case Kind::exists: return "exists";
    case Kind::state: return "state";
    case Kind::invalid: return "invalid";
    case Kind::not_executable: return "not_executable";
    case Kind::system: return "system";
    case Kind::timeout: return "timeout";
    case Kind::limit: return "limit";
  }
  return "system";
}

std::string Error::message() const {
  std::string sentence;
  if (!object.empty()) sentence += object + ": ";
  sentence += step;
  if (error_number != 0) sentence += std::string(": ") + strerror(error_number);
  if (!detail.empty()) sentence += (error_number != 0 ? " (" + detail + ")" : ": " + detail);
  return sentence;
}

}  // namespace keelson
