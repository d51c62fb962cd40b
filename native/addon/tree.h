// Whole directory trees of hostile content: measuring and removing them.
//
// No link is followed, no mount point is crossed, any depth takes one open
// descriptor and no recursion.
#pragma once

#include <cstdint>
#include <string>

#include "common/error.h"

namespace keelson {

struct TreeUse {
  uint64_t bytes = 0;   // allocated: st_blocks * 512, hard links counted once
  uint64_t inodes = 0;  // the root included
};

// Mount points below `path` are left out. Kind::invalid past `max_inodes`.
Result<TreeUse> disk_usage(const std::string& path, uint64_t max_inodes);

// Removes `path`, whatever it is; nothing there is fine. Stops at the first thing that the
// kernel refuses; a mount point inside is such a thing (EXDEV or EBUSY), never its content.
Status remove_tree(const std::string& path);

}  // namespace keelson
