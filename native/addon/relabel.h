// SELinux's label of a whole tree, as a container is to have it of a volume.
#pragma once

#include <cstdint>
#include <string>

#include "common/error.h"

namespace keelson {

// Whether `path`, which no link leads to, has the label.
Result<bool> has_label(const std::string& path, const std::string& label);

// Gives `path` and all below it the label; how many had another one. No link is followed, on the way to `path` neither;
// no other mount is entered, and what comes and goes meanwhile is passed over. The top comes last: where it has the
// label, a walk has got to the end, and there is nothing to do. File systems without labels have nothing to do either.
// Kind::invalid past `max_inodes`, Kind::timeout past `max_seconds`.
Result<uint64_t> relabel_tree(const std::string& path, const std::string& label, uint64_t max_inodes,
                              uint64_t max_seconds);

}  // namespace keelson
