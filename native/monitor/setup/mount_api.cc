// Thin calls of the new mount API. Sources: fsopen(2) and its siblings in linux/mount.h.
#include "monitor/setup/mount_api.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>

namespace keelson {

int fs_open(const char* type) { return fsopen(type, FSOPEN_CLOEXEC); }

int fs_set(int fs, const char* key, const char* value) {
  return value == nullptr ? fsconfig(fs, FSCONFIG_SET_FLAG, key, nullptr, 0)
                          : fsconfig(fs, FSCONFIG_SET_STRING, key, value, 0);
}

int fs_mount(int fs, uint64_t attributes) {
  if (fsconfig(fs, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) return -1;
  return fsmount(fs, FSMOUNT_CLOEXEC, static_cast<unsigned>(attributes));
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

int map_owners(int mount, int user_namespace, bool recursive) {
  mount_attr attributes = {};
  attributes.attr_set = MOUNT_ATTR_IDMAP;
  attributes.userns_fd = static_cast<uint64_t>(user_namespace);
  return mount_setattr(mount, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0u), &attributes, sizeof attributes);
}

int attach_mount(int mount, int target) {
  return move_mount(mount, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

bool is_proc_root(int fd) {
  constexpr ino_t root_inode = 1;  // PROC_ROOT_INO
  struct statfs file_system;
  struct stat status;
  return fstatfs(fd, &file_system) == 0 && file_system.f_type == PROC_SUPER_MAGIC && fstat(fd, &status) == 0 &&
         status.st_ino == root_inode;
}

uint64_t mount_attributes(uint64_t ms_flags) {
  uint64_t attributes = 0;
  if (ms_flags & MS_RDONLY) attributes |= MOUNT_ATTR_RDONLY;
  if (ms_flags & MS_NOSUID) attributes |= MOUNT_ATTR_NOSUID;
  if (ms_flags & MS_NODEV) attributes |= MOUNT_ATTR_NODEV;
  if (ms_flags & MS_NOEXEC) attributes |= MOUNT_ATTR_NOEXEC;
  if (ms_flags & MS_NODIRATIME) attributes |= MOUNT_ATTR_NODIRATIME;
  if (ms_flags & MS_NOSYMFOLLOW) attributes |= MOUNT_ATTR_NOSYMFOLLOW;
  if (ms_flags & MS_NOATIME) attributes |= MOUNT_ATTR_NOATIME;
  else if (ms_flags & MS_STRICTATIME) attributes |= MOUNT_ATTR_STRICTATIME;
  return attributes;
}

}  // namespace keelson
