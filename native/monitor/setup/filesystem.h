// File system calls of the setup, all by descriptor: paths resolved inside a root, and detached mounts. Called between
// clone and exec, so they do not allocate. A failure is -1 or no Fd, with errno.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "common/fd.h"

namespace keelson {

// Paths inside a container's root, where the image or another container may have placed links: resolved by the kernel
// with openat2(RESOLVE_IN_ROOT) and created one component at a time, so that nothing outside is opened or created even
// during concurrent renames.

// Opens `path` below the descriptor `root`, close-on-exec; magic links are refused. `resolve` adds RESOLVE_* flags.
Fd open_in_root(int root, const char* path, uint64_t flags, uint64_t resolve = 0);

// Opens (O_PATH) the directory or file `path`, creating it and its parents (mode 0755, files 0644, minus the umask) if
// missing. The target of a dangling symbolic link is created inside the root.
Fd make_directory_in_root(int root, const char* path);
Fd make_file_in_root(int root, const char* path);

// The same for the parent directory of the last component, which `name` is set to.
Fd make_parent_in_root(int root, const char* path, const char** name);

// The new mount calls (fsopen, open_tree, move_mount, mount_setattr).

// Opens a new file system context.
Fd fs_open(const char* type);
int fs_set(int fs, const char* key, const char* value);  // value nullptr: a flag
// Creates the superblock and a detached mount of it with MOUNT_ATTR_* attributes.
Fd fs_mount(int fs, uint64_t attributes);

struct FsOption {
  const char* key;
  const char* value;
};
// All of the above in one call, for a file system with known good options: a detached mount. `label` is the SELinux
// label of everything in it, empty for none.
Fd new_mount(const char* type, std::initializer_list<FsOption> options, uint64_t attributes,
             const std::string& label = {});
// Sets the label of a file system context, unless it is empty.
int fs_label(int fs, const std::string& label);
// Sets the label of the root of a mount, unless it is empty. Not an error if the file system does not support labels or
// has another owner: the mqueue of an IPC namespace in a user namespace belongs to the host's root.
int label_root(int mount, const std::string& label);

// A detached copy of the mount at `path` (below `dir`, or `dir` itself for ""), with all submounts if `recursive`.
Fd clone_tree(int dir, const char* path, bool recursive);

struct MountChange {
  uint64_t set = 0;          // MOUNT_ATTR_*
  uint64_t clear = 0;        // MOUNT_ATTR_*
  uint64_t propagation = 0;  // MS_PRIVATE, MS_SLAVE, MS_SHARED or MS_UNBINDABLE
};
int change_mount(int mount, const MountChange& change, bool recursive);

// Makes a detached mount idmapped, with the map of the user namespace `user_namespace`. EINVAL: its file system does
// not support it (overlayfs does not; its layers may).
int map_owners(int mount, int user_namespace);

// Attaches a detached mount to the directory or file of the descriptor `target`.
int attach_mount(int mount, int target);

// Unmounts `path`. Not an error if nothing is mounted there or the path does not exist.
int unmount(const char* path);

// A detached read-only mount of the host's /dev/null, through which the node cannot be modified. ENODEV: it is not the
// null device.
Fd null_mount();

// Whether both descriptors refer to the same file.
bool is_same_file(int one, int other);
// Whether the descriptor is on a file system of that type: PROC_SUPER_MAGIC …
bool is_on(int fd, long magic);
// Whether it is the null device.
bool is_null_device(int fd);
// Whether the descriptor is the root of a procfs.
bool is_proc_root(int fd);

// MS_* flags of a mount as MOUNT_ATTR_*.
uint64_t mount_attributes(uint64_t ms_flags);

}  // namespace keelson
