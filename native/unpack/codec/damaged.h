// The error for a stream that cannot be decoded.
#pragma once

#include <string>

#include "common/error.h"

namespace keelson {

inline std::unexpected<Error> damaged(std::string_view format, std::string what) {
  return fail(Kind::invalid, "decode " + std::string(format), std::move(what));
}

}  // namespace keelson
