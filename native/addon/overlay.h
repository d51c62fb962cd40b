// What a container has removed from its image, told from the upper directory of its overlay.
// Source: Documentation/filesystems/overlayfs.rst (whiteouts and opaque directories).
#pragma once

#include <string>
#include <vector>

#include "common/error.h"

namespace keelson {

// Paths below the root, without a leading slash: each whiteout of `upper`, and for each directory that was
// removed and made again what the layers of `lower` (top first) would still show in it. No link is followed.
// Kind::invalid past `max_paths`, or 128 MiB of them. Nothing may write to `upper` meanwhile.
Result<std::vector<std::string>> removed_paths(const std::string& upper, const std::vector<std::string>& lower,
                                               uint64_t max_paths);

}  // namespace keelson
