// Host paths from requests, which may be on a file system that hangs.
#pragma once

#include <string>

#include "common/error.h"

namespace keelson {

// The path with its symlinks resolved, as realpath(3) does.
Result<std::string> resolve_path(const std::string& path);

// The same, but a missing path is created as a directory, with its parents.
Result<std::string> present_path(const std::string& path);

}  // namespace keelson
