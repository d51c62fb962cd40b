// Directories and whole trees of hostile content: listing, measuring and removing them.
//
// No link is followed, no mount point is crossed, any depth takes one open
// descriptor and no recursion.
#pragma once

#include <dirent.h>

#include <cstdint>
#include <functional>
#include <string>

#include "common/error.h"

namespace keelson {

// Calls `visit` for each name in `directory`, open for reading, but `.` and `..`, from where its offset stands, until
// that answers false. `name` is for errors.
Status each_entry(int directory, const std::string& name, const std::function<Result<bool>(const dirent64&)>& visit);

struct TreeUse {
  uint64_t bytes = 0;   // allocated: st_blocks * 512, hard links counted once
  uint64_t inodes = 0;  // the root included
};

// Mount points below `path` are left out. Kind::invalid past `max_inodes`.
Result<TreeUse> disk_usage(const std::string& path, uint64_t max_inodes);

// Removes what is there, whatever it is; nothing there is fine. Stops at the first thing that the
// kernel refuses; a mount point inside is such a thing (EXDEV or EBUSY), never its content.
// Needs memory for the tree's depth, and 1 MiB, however many entries there are.
Status remove_tree(const std::string& path);
Status remove_tree_at(int parent, const char* name);

}  // namespace keelson
