// Masked and read-only paths. Source: runtime-spec config-linux.md (Masked Paths, Readonly Paths).
//
// A file is covered with the host's /dev/null, never the container's, which its image
// or a neighbour could have replaced (CVE-2025-31133). Every path is opened once and
// the mount put on that descriptor; below /proc it must really be procfs (CVE-2025-52881).
#include "monitor/setup/masking.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "monitor/setup/mount_api.h"
#include "monitor/setup/resolve.h"

namespace keelson {

namespace {

// The path's descriptor, or -1 when there is no such path.
int open_checked(const Child& child, int root, const char* path, Step step) {
  int target = open_in_root(root, path, O_PATH);
  if (target < 0) {
    if (errno == ENOENT || errno == ENOTDIR) return -1;
    child.die(step, path);
  }
  struct statfs status;
  if (fstatfs(target, &status) != 0) child.die(step, path);
  if (strncmp(path, "/proc/", 6) == 0 && status.f_type != PROC_SUPER_MAGIC) child.die(step, path, EXDEV);
  return target;
}

int null_tree(const Child& child) {
  int tree = clone_tree(AT_FDCWD, "/dev/null", false);
  struct stat status;
  if (tree < 0 || fstat(tree, &status) != 0) child.die(Step::mask_path, "/dev/null");
  if (!S_ISCHR(status.st_mode) || status.st_rdev != makedev(1, 3)) child.die(Step::mask_path, "/dev/null", ENODEV);
  // The node is the host's: nothing about it may be changed from inside.
  if (change_mount(tree, {MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSUID, 0, MS_PRIVATE}, false) != 0) {
    child.die(Step::mask_path, "/dev/null");
  }
  return tree;
}

int empty_directory(const Child& child) {
  int fs = fs_open("tmpfs");
  if (fs < 0 || fs_set(fs, "size", "4k") != 0 || fs_set(fs, "mode", "755") != 0) child.die(Step::mask_path);
  int tree = fs_mount(fs, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
  if (tree < 0) child.die(Step::mask_path);
  close(fs);
  return tree;
}

// What covers all masked paths of one kind: made at the first, copied for the next
// from the place where the first one hangs (a detached mount cannot be copied).
class Cover {
 public:
  explicit Cover(int (*make)(const Child&)) : make_(make) {}

  void put_on(const Child& child, int target, const char* path) {
    int tree = first_ < 0 ? make_(child) : clone_tree(first_, "", false);
    if (tree < 0 || attach_mount(tree, target) != 0) child.die(Step::mask_path, path);
    if (first_ < 0) first_ = tree;
    else close(tree);
  }
  void finish() const {
    if (first_ >= 0) close(first_);
  }

 private:
  int (*make_)(const Child&);
  int first_ = -1;
};

}  // namespace

void mask_paths(const Child& child, int root, const std::vector<std::string>& paths) {
  Cover files(null_tree), directories(empty_directory);
  for (const std::string& path : paths) {
    int target = open_checked(child, root, path.c_str(), Step::mask_path);
    if (target < 0) continue;
    struct stat status;
    if (fstat(target, &status) != 0) child.die(Step::mask_path, path.c_str());
    (S_ISDIR(status.st_mode) ? directories : files).put_on(child, target, path.c_str());
    close(target);
  }
  files.finish();
  directories.finish();
}

void make_paths_readonly(const Child& child, int root, const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    int target = open_checked(child, root, path.c_str(), Step::make_path_readonly);
    if (target < 0) continue;
    int tree = clone_tree(target, "", true);
    if (tree < 0 || change_mount(tree, {MOUNT_ATTR_RDONLY, 0, 0}, true) != 0 || attach_mount(tree, target) != 0) {
      child.die(Step::make_path_readonly, path.c_str());
    }
    close(tree);
    close(target);
  }
}

}  // namespace keelson
