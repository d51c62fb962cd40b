// Lists, walks, measures and removes directory trees with untrusted content.
//
// Follows no links, crosses no mount points, and needs only one open descriptor and no recursion for any depth.
#pragma once

#include <dirent.h>

#include <cstdint>
#include <functional>
#include <string>

#include "common/error.h"

namespace keelson {

// Calls `visit` for each name in `directory` (open for reading) except `.` and `..`, from its current offset, until `visit`
// returns false. `name` is for errors.
Status each_entry(int directory, const std::string& name, const std::function<Result<bool>(const dirent64&)>& visit);

// The callbacks of a walk. Names are relative to the directory `parent`.
class TreeVisitor {
 public:
  virtual ~TreeVisitor() = default;
  // Returns true for a directory to walk into. `type` is a d_type, which may be DT_UNKNOWN.
  virtual Result<bool> entry(int parent, const char* name, unsigned char type) = 0;
  // Called with an open directory below the root, before anything in it is visited.
  virtual Status enter(int, const char*) { return {}; }
  // Called for a directory that is a mount point and is not entered.
  virtual Status mount_point(const char*) { return {}; }
  // Called after everything in the directory has been visited.
  virtual Status leave(int, const char*) { return {}; }
  // Whether visiting removes entries.
  virtual bool removes() const { return false; }
  // Whether directories that cannot be opened, or are moved away during the walk, are skipped. If one is moved in a very
  // deep tree, others on the way down to it may be left incomplete.
  virtual bool is_lenient() const { return false; }
};

// Visits everything below a directory; a directory is left after its children.
Status walk_tree(int directory, TreeVisitor& visitor);

struct TreeUse {
  uint64_t bytes = 0;   // allocated: st_blocks * 512, hard links counted once
  uint64_t inodes = 0;  // the root included
};

// Skips mount points below `path` and everything that cannot be read; moved directories may be counted twice. Stops
// counting at `max_inodes`.
Result<TreeUse> disk_usage(const std::string& path, uint64_t max_inodes);

// Removes a file or a whole tree; a missing path is not an error. Stops at the first entry that cannot be removed, such as
// a mount point (EXDEV or EBUSY), whose content is never touched. Needs memory for the tree's depth plus 1 MiB, however
// many entries there are.
Status remove_tree(const std::string& path);
Status remove_tree_at(int parent, const char* name);

}  // namespace keelson
