// Sources: openat2(2), path_resolution(7), fsopen(2) and its siblings in linux/mount.h, mount(8) (context=), xattr(7).
#include "monitor/setup/filesystem.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <utility>

namespace keelson {

namespace {

constexpr int max_links = 40;  // as many as the kernel follows, path_resolution(7)

enum class Leaf { directory, file };

// Opens `parent`'s entry `name`, creating it if it is missing.
Fd make_entry(int parent, const char* name, Leaf leaf) {
  if (leaf == Leaf::directory) {
    if (mkdirat(parent, name, 0755) != 0 && errno != EEXIST) return Fd();
    return Fd(openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  }
  const Fd made(openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!made && errno != EEXIST) return Fd();
  return open_in_root(parent, name, O_PATH, RESOLVE_NO_SYMLINKS);
}

// Replaces a dangling link in `path` (head + link + tail) by its target.
bool replace_link(char (&path)[PATH_MAX], size_t head, size_t link_end, int parent, const char* name) {
  char target[PATH_MAX];
  ssize_t length = readlinkat(parent, name, target, sizeof target - 1);
  if (length < 0) return false;
  target[length] = '\0';
  char joined[PATH_MAX];
  int size = target[0] == '/' ? snprintf(joined, sizeof joined, "%s%s", target, path + link_end)
                              : snprintf(joined, sizeof joined, "%.*s/%s%s", static_cast<int>(head), path, target,
                                         path + link_end);
  if (size < 0 || static_cast<size_t>(size) >= sizeof joined) {
    errno = ENAMETOOLONG;
    return false;
  }
  memcpy(path, joined, static_cast<size_t>(size) + 1);
  return true;
}

enum class Walk { arrived, again, failed };

// Walks down `path` to the first missing component; creates it and the following ones.
Walk walk(int root, char (&path)[PATH_MAX], Leaf leaf, Fd& arrived) {
  Fd parent = open_in_root(root, "/", O_PATH | O_DIRECTORY);
  if (!parent) return Walk::failed;
  size_t at = 0;
  for (;;) {
    while (path[at] == '/') ++at;
    if (path[at] == '\0') break;
    size_t begin = at;
    while (path[at] != '/' && path[at] != '\0') ++at;
    char after = path[at];
    bool last = path[at + strspn(path + at, "/")] == '\0';

    path[at] = '\0';
    Fd next = open_in_root(root, path, O_PATH);
    if (!next && errno == ENOENT) {
      struct stat status;
      if (fstatat(parent.get(), path + begin, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(status.st_mode)) {
        char name[NAME_MAX + 1];
        snprintf(name, sizeof name, "%s", path + begin);
        path[at] = after;
        return replace_link(path, begin, at, parent.get(), name) ? Walk::again : Walk::failed;
      }
      next = make_entry(parent.get(), path + begin, last ? leaf : Leaf::directory);
    }
    path[at] = after;
    if (!next) return Walk::failed;
    parent = std::move(next);
  }
  arrived = std::move(parent);
  return Walk::arrived;
}

Fd make_in_root(int root, const char* wanted, Leaf leaf) {
  Fd found = open_in_root(root, wanted, O_PATH);
  if (found || errno != ENOENT) return found;
  char path[PATH_MAX];
  if (strlen(wanted) >= sizeof path) {
    errno = ENAMETOOLONG;
    return Fd();
  }
  strcpy(path, wanted);
  for (int links = 0; links < max_links; ++links) {
    const Walk end = walk(root, path, leaf, found);
    if (end != Walk::again) return found;
  }
  errno = ELOOP;
  return Fd();
}

}  // namespace

Fd open_in_root(int root, const char* path, uint64_t flags, uint64_t resolve) {
  return open_resolved(root, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve);
}

Fd make_directory_in_root(int root, const char* path) { return make_in_root(root, path, Leaf::directory); }

Fd make_file_in_root(int root, const char* path) { return make_in_root(root, path, Leaf::file); }

Fd make_parent_in_root(int root, const char* path, const char** name) {
  const char* slash = strrchr(path, '/');
  *name = slash + 1;
  size_t length = static_cast<size_t>(slash - path);
  char parent[PATH_MAX];
  if (length >= sizeof parent) {
    errno = ENAMETOOLONG;
    return Fd();
  }
  memcpy(parent, path, length);
  parent[length] = '\0';
  return make_directory_in_root(root, length == 0 ? "/" : parent);
}

Fd fs_open(const char* type) { return Fd(fsopen(type, FSOPEN_CLOEXEC)); }

int fs_set(int fs, const char* key, const char* value) {
  return value == nullptr ? fsconfig(fs, FSCONFIG_SET_FLAG, key, nullptr, 0)
                          : fsconfig(fs, FSCONFIG_SET_STRING, key, value, 0);
}

Fd fs_mount(int fs, uint64_t attributes) {
  if (fsconfig(fs, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) return Fd();
  return Fd(fsmount(fs, FSMOUNT_CLOEXEC, static_cast<unsigned>(attributes)));
}

Fd new_mount(const char* type, std::initializer_list<FsOption> options, uint64_t attributes, const std::string& label) {
  const Fd fs = fs_open(type);
  if (!fs) return Fd();
  for (const FsOption& option : options) {
    if (fs_set(fs.get(), option.key, option.value) != 0) return Fd();
  }
  if (fs_label(fs.get(), label) != 0) return Fd();
  return fs_mount(fs.get(), attributes);
}

int fs_label(int fs, const std::string& label) { return label.empty() ? 0 : fs_set(fs, "context", label.c_str()); }

int label_root(int mount, const std::string& label) {
  if (label.empty()) return 0;
  // Through the link in procfs: fsetxattr(2) does not work on an O_PATH descriptor.
  char path[32];
  snprintf(path, sizeof path, "/proc/self/fd/%d", mount);
  const int set = setxattr(path, "security.selinux", label.c_str(), label.size() + 1, 0);
  return set != 0 && (errno == EOPNOTSUPP || errno == EPERM) ? 0 : set;
}

Fd clone_tree(int dir, const char* path, bool recursive) {
  unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
  if (path[0] == '\0') flags |= AT_EMPTY_PATH;
  if (recursive) flags |= AT_RECURSIVE;
  return Fd(open_tree(dir, path, flags));
}

int change_mount(int mount, const MountChange& change, bool recursive) {
  mount_attr attributes = {};
  attributes.attr_set = change.set;
  attributes.attr_clr = change.clear;
  // The access time modes are one field, not bits, which must be cleared before it is set.
  if (change.set & MOUNT_ATTR__ATIME) attributes.attr_clr |= MOUNT_ATTR__ATIME;
  attributes.propagation = change.propagation;
  return mount_setattr(mount, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0u), &attributes, sizeof attributes);
}

int map_owners(int mount, int user_namespace) {
  mount_attr attributes = {};
  attributes.attr_set = MOUNT_ATTR_IDMAP;
  attributes.userns_fd = static_cast<uint64_t>(user_namespace);
  return mount_setattr(mount, "", AT_EMPTY_PATH, &attributes, sizeof attributes);
}

int attach_mount(int mount, int target) {
  return move_mount(mount, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

int unmount(const char* path) {
  // EINVAL: nothing is mounted there.
  return umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0 || errno == EINVAL || errno == ENOENT ? 0 : -1;
}

Fd null_mount() {
  Fd mount = clone_tree(AT_FDCWD, "/dev/null", false);
  if (mount && !is_null_device(mount.get())) {
    errno = ENODEV;
    return Fd();
  }
  constexpr uint64_t attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSUID;
  if (mount && change_mount(mount.get(), {attributes, 0, MS_PRIVATE}, false) != 0) return Fd();
  return mount;
}

bool is_same_file(int one, int other) {
  struct stat a, b;
  return fstat(one, &a) == 0 && fstat(other, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

bool is_on(int fd, long magic) {
  struct statfs status;
  return fstatfs(fd, &status) == 0 && status.f_type == magic;
}

bool is_null_device(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3);
}

bool is_proc_root(int fd) {
  constexpr ino_t root_inode = 1;  // PROC_ROOT_INO
  struct stat status;
  return is_on(fd, PROC_SUPER_MAGIC) && fstat(fd, &status) == 0 && status.st_ino == root_inode;
}

uint64_t mount_attributes(uint64_t ms_flags) {
  uint64_t attributes = 0;
  if (ms_flags & MS_RDONLY) attributes |= MOUNT_ATTR_RDONLY;
  if (ms_flags & MS_NOSUID) attributes |= MOUNT_ATTR_NOSUID;
  if (ms_flags & MS_NODEV) attributes |= MOUNT_ATTR_NODEV;
  if (ms_flags & MS_NOEXEC) attributes |= MOUNT_ATTR_NOEXEC;
  if (ms_flags & MS_STRICTATIME) attributes |= MOUNT_ATTR_STRICTATIME;
  return attributes;
}

}  // namespace keelson
