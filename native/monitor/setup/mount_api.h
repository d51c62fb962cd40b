// The new mount calls (fsopen, open_tree, move_mount, mount_setattr), thin and
// without allocation. All return -1 and errno as the kernel gives it. glibc has
// wrappers since 2.36, but its headers clash with <linux/mount.h>.
#pragma once

#include <cstdint>

namespace keelson {

// A file system being configured. Close the descriptor when mounted.
int fs_open(const char* type);
int fs_set(int fs, const char* key, const char* value);  // value nullptr: a flag
// Creates the superblock and a detached mount of it with MOUNT_ATTR_* attributes.
int fs_mount(int fs, uint64_t attributes);

// A detached copy of the mount at `path` (below `dir`, or `dir` itself for ""), with all below it when `recursive`.
int clone_tree(int dir, const char* path, bool recursive);

struct MountChange {
  uint64_t set = 0;          // MOUNT_ATTR_*
  uint64_t clear = 0;        // MOUNT_ATTR_*
  uint64_t propagation = 0;  // MS_PRIVATE, MS_SLAVE, MS_SHARED or MS_UNBINDABLE
};
int change_mount(int mount, const MountChange& change, bool recursive);

// Has a detached mount show its files' owners through the map of the user namespace behind `user_namespace`.
// EINVAL: its file system cannot (overlay cannot; what it lies on can).
int map_owners(int mount, int user_namespace, bool recursive);

// Puts a detached mount on the directory or file behind the descriptor `target`.
int attach_mount(int mount, int target);

// Whether the descriptor is the root of a procfs.
bool is_proc_root(int fd);

// MS_* flags of a mount as MOUNT_ATTR_*.
uint64_t mount_attributes(uint64_t ms_flags);

}  // namespace keelson
