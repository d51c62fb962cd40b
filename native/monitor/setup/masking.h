// Hiding parts of /proc and /sys from the container, and making others read-only.
#pragma once

#include <string>
#include <vector>

#include "monitor/setup/child.h"

namespace keelson {

// A path that does not exist is no harm and is passed over.
void mask_paths(const Child& child, int root, const std::vector<std::string>& paths);
void make_paths_readonly(const Child& child, int root, const std::vector<std::string>& paths);

}  // namespace keelson
