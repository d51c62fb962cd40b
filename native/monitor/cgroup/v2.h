// cgroup v2 only: the files that OCI resources are written to, and making a directory usable.
#pragma once

#include <string>

#include "common/error.h"
#include "common/json.h"

namespace keelson::v2 {

// Delegates the controllers of a directory to its children.
Status delegate_controllers(const std::string& directory);

// Writes OCI linux.resources to the cgroup at `directory`, all or nothing; device rules become its device program.
Status apply(const std::string& directory, const Json& resources);

}  // namespace keelson::v2
