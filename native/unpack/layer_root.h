// The layer's directory. The kernel resolves every path inside it.
//
// Directories are opened with openat2(2), RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS, relative to the root's descriptor; last
// components are only used with *at calls that do not follow links. So a symbolic link in the archive can lead only into the
// layer, as it would in a container. Counts the inodes that are created.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/error.h"
#include "common/fd.h"
#include "unpack/layer_path.h"

namespace keelson {

class LayerRoot {
 public:
  // The caller keeps ownership of `root`. At most `max_inodes` may be created.
  LayerRoot(int root, uint64_t max_inodes) : root_(root), max_inodes_(max_inodes) {}

  int descriptor() const { return root_; }

  // Must be called before each file, directory, link, device … is created. Replaced ones stay counted.
  Status take_inode();
  uint64_t inodes() const { return inodes_; }

  // The directory that contains `path`'s last component, opened for reading; valid until the next call. Creates missing
  // directories, which layers may omit, with mode 0755 and owner root, and marks them (unnamed.h).
  Result<int> parent_of(const LayerPath& path);
  // Opens an existing directory; follows a link as the last component only with `follow_last`. Kind `not_found` if there is
  // none.
  Result<Fd> open_directory(std::string_view path, bool follow_last) const;
  // Creates the directory `name` in `parent` and opens it. If it replaces a whiteout it becomes opaque, so that what the
  // whiteout hid stays hidden. An existing directory is kept.
  Result<Fd> make_directory(int parent, const char* name);
  // Removes what an entry replaces: the whole tree if it is a directory, the link itself if it is a link.
  Status remove(int parent, const char* name);
  // Lets parent_of return `path` (a directory just created) without resolving it again.
  void remember(const std::string& path, Fd directory);

 private:
  Result<Fd> make_path(std::string_view path);

  int root_;
  uint64_t max_inodes_;
  uint64_t inodes_ = 0;
  std::string cached_path_;
  Fd cached_;
  bool cache_stale_ = false;  // something was removed; parent_of must resolve again
};

}  // namespace keelson
