// Sources: openat2(2), path_resolution(7), fsopen(2) and its siblings in linux/mount.h.
#include "monitor/setup/filesystem.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>

namespace keelson {

namespace {

constexpr int max_links = 40;     // as many as the kernel follows, path_resolution(7)
constexpr int max_attempts = 128; // EAGAIN: something was renamed while ".." was resolved

// Closes what has been used, and leaves errno to say how that went.
void close_after(int fd) {
  const int why = errno;
  close(fd);
  errno = why;
}

enum class Leaf { directory, file };

// Opens `parent`'s entry `name`, making it when it is missing.
int make_entry(int parent, const char* name, Leaf leaf) {
  if (leaf == Leaf::directory) {
    if (mkdirat(parent, name, 0755) != 0 && errno != EEXIST) return -1;
    return openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  }
  int file = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
  if (file < 0) {
    if (errno != EEXIST) return -1;
  } else {
    close(file);
  }
  return open_in_root(parent, name, O_PATH, RESOLVE_NO_SYMLINKS);
}

// Puts the target of a link that leads nowhere in its place: `path` is head + link + tail.
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

// Goes down `path` to the first component that is missing, makes that and what follows.
Walk walk(int root, char (&path)[PATH_MAX], Leaf leaf, int* arrived) {
  int parent = open_in_root(root, "/", O_PATH | O_DIRECTORY);
  if (parent < 0) return Walk::failed;
  size_t at = 0;
  for (;;) {
    while (path[at] == '/') ++at;
    if (path[at] == '\0') break;
    size_t begin = at;
    while (path[at] != '/' && path[at] != '\0') ++at;
    char after = path[at];
    bool last = path[at + strspn(path + at, "/")] == '\0';

    path[at] = '\0';
    int next = open_in_root(root, path, O_PATH);
    if (next < 0 && errno == ENOENT) {
      struct stat status;
      if (fstatat(parent, path + begin, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(status.st_mode)) {
        char name[NAME_MAX + 1];
        snprintf(name, sizeof name, "%s", path + begin);
        path[at] = after;
        bool replaced = replace_link(path, begin, at, parent, name);
        close_after(parent);
        return replaced ? Walk::again : Walk::failed;
      }
      next = make_entry(parent, path + begin, last ? leaf : Leaf::directory);
    }
    path[at] = after;
    close_after(parent);
    if (next < 0) return Walk::failed;
    parent = next;
  }
  *arrived = parent;
  return Walk::arrived;
}

int make_in_root(int root, const char* wanted, Leaf leaf) {
  int found = open_in_root(root, wanted, O_PATH);
  if (found >= 0 || errno != ENOENT) return found;
  char path[PATH_MAX];
  if (strlen(wanted) >= sizeof path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  strcpy(path, wanted);
  for (int links = 0; links < max_links; ++links) {
    int arrived = -1;
    switch (walk(root, path, leaf, &arrived)) {
      case Walk::arrived: return arrived;
      case Walk::failed: return -1;
      case Walk::again: break;
    }
  }
  errno = ELOOP;
  return -1;
}

}  // namespace

int open_in_root(int root, const char* path, uint64_t flags, uint64_t resolve) {
  open_how how = {};
  how.flags = flags | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve;
  for (int attempt = 0; attempt < max_attempts; ++attempt) {
    long opened = syscall(SYS_openat2, root, path, &how, sizeof how);
    if (opened >= 0 || (errno != EAGAIN && errno != EINTR)) return static_cast<int>(opened);
  }
  return -1;
}

int make_directory_in_root(int root, const char* path) { return make_in_root(root, path, Leaf::directory); }

int make_file_in_root(int root, const char* path) { return make_in_root(root, path, Leaf::file); }

int make_parent_in_root(int root, const char* path, const char** name) {
  const char* slash = strrchr(path, '/');
  *name = slash + 1;
  size_t length = static_cast<size_t>(slash - path);
  char parent[PATH_MAX];
  if (length >= sizeof parent) {
    errno = ENAMETOOLONG;
    return -1;
  }
  memcpy(parent, path, length);
  parent[length] = '\0';
  return make_directory_in_root(root, length == 0 ? "/" : parent);
}

int fs_open(const char* type) { return fsopen(type, FSOPEN_CLOEXEC); }

int fs_set(int fs, const char* key, const char* value) {
  return value == nullptr ? fsconfig(fs, FSCONFIG_SET_FLAG, key, nullptr, 0)
                          : fsconfig(fs, FSCONFIG_SET_STRING, key, value, 0);
}

int fs_mount(int fs, uint64_t attributes) {
  if (fsconfig(fs, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) return -1;
  return fsmount(fs, FSMOUNT_CLOEXEC, static_cast<unsigned>(attributes));
}

int new_mount(const char* type, std::initializer_list<FsOption> options, uint64_t attributes) {
  int fs = fs_open(type);
  if (fs < 0) return -1;
  bool set = true;
  for (const FsOption& option : options) set = set && fs_set(fs, option.key, option.value) == 0;
  int mounted = set ? fs_mount(fs, attributes) : -1;
  close_after(fs);
  return mounted;
}

int clone_tree(int dir, const char* path, bool recursive) {
  unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
  if (path[0] == '\0') flags |= AT_EMPTY_PATH;
  if (recursive) flags |= AT_RECURSIVE;
  return open_tree(dir, path, flags);
}

int change_mount(int mount, const MountChange& change, bool recursive) {
  mount_attr attributes = {};
  attributes.attr_set = change.set;
  attributes.attr_clr = change.clear;
  // The kinds of access time are one field, not bits: whoever sets it clears it first.
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
