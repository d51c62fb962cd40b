// A tree from an archive may be deeper than descriptors or stack allow: links inside the layer let it grow
// past the bound on path length. So nothing descends: a directory found one level down is renamed up
// into the tree's top, and the top is emptied again and again until only itself is left.
#include "unpack/remove_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "common/fd.h"

namespace keelson {

namespace {

constexpr const char* step = "remove what the entry replaces";

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};
using Directory = std::unique_ptr<DIR, CloseDirectory>;

Result<Directory> open_directory(int parent, const char* name) {
  Fd fd(openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return fail_errno(step);
  DIR* directory = fdopendir(fd.get());
  if (directory == nullptr) return fail_errno(step);
  fd.release();
  return Directory(directory);
}

// The next name but `.` and `..`, or nullptr at the end.
Result<const char*> next_name(DIR* directory) {
  for (;;) {
    errno = 0;
    const dirent* entry = readdir(directory);
    if (entry == nullptr && errno != 0) return fail_errno(step);
    if (entry == nullptr) return nullptr;
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) return entry->d_name;
  }
}

class Emptier {
 public:
  explicit Emptier(DIR* top) : top_(top), top_fd_(dirfd(top)) {}

  Status run() {
    for (bool found = true; found;) {
      found = false;
      rewinddir(top_);
      for (;;) {
        const char* name = TRY(next_name(top_));
        if (name == nullptr) break;
        found = true;
        TRY(remove_child(name));
      }
    }
    return {};
  }

 private:
  Status remove_child(const char* name) {
    if (unlinkat(top_fd_, name, 0) == 0) return {};
    if (errno != EISDIR && errno != EPERM) return fail_errno(step);
    Directory child = TRY(open_directory(top_fd_, name));
    for (;;) {
      const char* inner = TRY(next_name(child.get()));
      if (inner == nullptr) break;
      TRY(remove_or_lift(dirfd(child.get()), inner));
    }
    if (unlinkat(top_fd_, name, AT_REMOVEDIR) != 0) return fail_errno(step);
    return {};
  }

  Status remove_or_lift(int child, const char* name) {
    if (unlinkat(child, name, 0) == 0) return {};
    if (errno != EISDIR && errno != EPERM) return fail_errno(step);
    for (;;) {
      std::string lifted = ".lifted-" + std::to_string(counter_++);
      if (renameat2(child, name, top_fd_, lifted.c_str(), RENAME_NOREPLACE) == 0) return {};
      if (errno != EEXIST) return fail_errno(step);
    }
  }

  DIR* top_;
  int top_fd_;
  uint64_t counter_ = 0;
};

}  // namespace

Status remove_tree(int parent, const char* name) {
  Directory top = TRY(open_directory(parent, name));
  TRY(Emptier(top.get()).run());
  if (unlinkat(parent, name, AT_REMOVEDIR) != 0) return fail_errno(step);
  return {};
}

}  // namespace keelson
