// A path of the host that a pod is to see: it may lie on a file system that does not answer.
#pragma once

#include <string>

#include "common/error.h"

namespace keelson {

// With its links resolved, realpath(3). Where nothing is, a directory is made, with those above it.
Result<std::string> present_path(const std::string& path);

}  // namespace keelson
