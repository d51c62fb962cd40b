// The layer's directory as a cage: every path is resolved by the kernel inside it.
//
// Directories are opened with openat2(2), RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS, against the
// root's descriptor; last components are only ever used with *at calls that do not follow links.
// A symbolic link in the archive thus leads nowhere but into the layer, as it would in a container.
// What is made in it is counted.
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
  // `root` stays the caller's. `max_inodes`: how many may be made.
  LayerRoot(int root, uint64_t max_inodes) : root_(root), max_inodes_(max_inodes) {}

  int descriptor() const { return root_; }

  // Before each file, directory, link, device … is made. What a later entry replaces stays counted.
  Status take_inode();
  uint64_t inodes() const { return inodes_; }

  // The directory that holds `path`'s last component, for reading; valid until the next call. Missing
  // directories on the way are made, 0755 and root's, and marked (unnamed.h): layers may leave them out.
  Result<int> parent_of(const LayerPath& path);
  // A directory that must be there; a link in last place is not followed. kind `not_found` when it is not.
  Result<Fd> open_directory(std::string_view path, bool follow_last) const;
  // Makes the directory `name` in `parent` and opens it; what a whiteout stood for stays hidden, because
  // the new directory is opaque then. A directory that is there already is kept.
  Result<Fd> make_directory(int parent, const char* name);
  // Takes away what an entry replaces: a whole tree when it is a directory, the link itself when it is one.
  Status remove(int parent, const char* name);
  // Lets parent_of answer `path` (a directory just made) without resolving it again.
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
