// Sets the SELinux label of a volume's whole tree, for a container to use.
#pragma once

#include <cstdint>
#include <string>

#include "common/error.h"

namespace keelson {

// Whether `path` has the label. Follows no symlinks anywhere in `path`.
Result<bool> has_label(const std::string& path, const std::string& label);

// Sets the label of `path` and of everything below it, and returns how many files had another one. Follows no symlinks, not
// even on the way to `path`; enters no other mount, and skips files that disappear during the walk. The top is labelled
// last: if it already has the label, an earlier walk was complete and there is nothing to do. File systems without labels
// are left alone. Kind::invalid past `max_inodes`, Kind::timeout past `max_seconds`.
Result<uint64_t> relabel_tree(const std::string& path, const std::string& label, uint64_t max_inodes,
                              uint64_t max_seconds);

}  // namespace keelson
