// Finds what a container has removed from its image, from the upper directory of its overlay.
// Source: Documentation/filesystems/overlayfs.rst (whiteouts and opaque directories).
#pragma once

#include <string>
#include <vector>

#include "common/error.h"

namespace keelson {

// Returns paths below the root, without a leading slash: every whiteout in `upper`, and for every directory that was removed
// and created again, the entries that the layers `lower` (top first) still have in it. Follows no links. Kind::invalid past
// `max_paths`, or 128 MiB of paths. Nothing may write to `upper` during the call.
Result<std::vector<std::string>> removed_paths(const std::string& upper, const std::vector<std::string>& lower,
                                               uint64_t max_paths);

}  // namespace keelson
