#include "common/error.h"

namespace keelson {

std::string_view to_string(Kind kind) {
  static constexpr std::string_view words[] = {"protocol", "busy",           "not_found", "exists",  "state",
                                               "invalid",  "not_executable", "system",    "timeout", "limit"};
  return words[static_cast<size_t>(kind)];
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
