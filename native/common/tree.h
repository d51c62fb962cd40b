// Directories and whole trees of hostile content: listing, walking, measuring and removing them.
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

// What a walk does with what it meets. Names are relative to the directory `parent`.
class TreeVisitor {
 public:
  virtual ~TreeVisitor() = default;
  // True: a directory to walk into. `type` is of d_type, which may be DT_UNKNOWN.
  virtual Result<bool> entry(int parent, const char* name, unsigned char type) = 0;
  // A directory below the root, open, before anything in it is visited.
  virtual Status enter(int, const char*) { return {}; }
  // A directory that is another mount and was not entered.
  virtual Status mount_point(const char*) { return {}; }
  // All inside the directory has been visited.
  virtual Status leave(int, const char*) { return {}; }
  // Whether what has been visited is gone.
  virtual bool removes() const { return false; }
  // Whether directories that cannot be opened, or are moved away meanwhile, are passed over; of a very deep tree in which
  // one is moved, also others below the way there.
  virtual bool is_lenient() const { return false; }
};

// Visits all that is below a directory, children before their directory is left.
Status walk_tree(int directory, TreeVisitor& visitor);

struct TreeUse {
  uint64_t bytes = 0;   // allocated: st_blocks * 512, hard links counted once
  uint64_t inodes = 0;  // the root included
};

// Mount points below `path` are left out, and so is what cannot be read; moved directories may count twice. Counts no
// further than `max_inodes`.
Result<TreeUse> disk_usage(const std::string& path, uint64_t max_inodes);

// Removes what is there, whatever it is; nothing there is fine. Stops at the first thing that the
// kernel refuses; a mount point inside is such a thing (EXDEV or EBUSY), never its content.
// Needs memory for the tree's depth, and 1 MiB, however many entries there are.
Status remove_tree(const std::string& path);
Status remove_tree_at(int parent, const char* name);

}  // namespace keelson
