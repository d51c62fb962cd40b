// Paths of the host that requests name: they may lie on a file system that does not answer.
#pragma once

#include <string>

#include "common/error.h"

namespace keelson {

// With its links resolved, realpath(3).
Result<std::string> resolve_path(const std::string& path);

// The same. Where nothing is, a directory is made, with those above it.
Result<std::string> present_path(const std::string& path);

}  // namespace keelson
