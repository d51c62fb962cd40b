// The calls that set-up makes on file systems, all of them by descriptor: paths resolved inside a root, and detached
// mounts. Called between clone and exec: no allocation. A failure is -1 or no Fd, and errno.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "common/fd.h"

namespace keelson {

// Paths inside a container's root, which its image or a neighbour may have filled
// with links: resolved by the kernel with openat2(RESOLVE_IN_ROOT), created one
// component at a time, so that nothing outside is opened or made even while
// somebody renames things under us.

// Opens below the descriptor `root`, close-on-exec; magic links are refused. `resolve` adds RESOLVE_* to that.
Fd open_in_root(int root, const char* path, uint64_t flags, uint64_t resolve = 0);

// Opens (O_PATH) the directory or file `path`, made with its missing parents (mode
// 0755, files 0644, less the umask) when it is not there. A symbolic link
// that leads nowhere has its target made, inside the root.
Fd make_directory_in_root(int root, const char* path);
Fd make_file_in_root(int root, const char* path);

// Same for the directory that is to hold the last component, which `name` is set to.
Fd make_parent_in_root(int root, const char* path, const char** name);

// The new mount calls (fsopen, open_tree, move_mount, mount_setattr).

// A file system being configured.
Fd fs_open(const char* type);
int fs_set(int fs, const char* key, const char* value);  // value nullptr: a flag
// Creates the superblock and a detached mount of it with MOUNT_ATTR_* attributes.
Fd fs_mount(int fs, uint64_t attributes);

struct FsOption {
  const char* key;
  const char* value;
};
// All of that in one, for a file system whose options cannot be wrong: a detached mount. `label` is SELinux's of all
// that is in it, empty for none.
Fd new_mount(const char* type, std::initializer_list<FsOption> options, uint64_t attributes,
             const std::string& label = {});
// The label of a file system being configured; none when empty.
int fs_label(int fs, const std::string& label);
// The label of the root of a mount; none when empty, or where the file system takes none or is another's: an IPC
// namespace's mqueue in a user namespace belongs to the host's root, whom nobody in there is.
int label_root(int mount, const std::string& label);

// A detached copy of the mount at `path` (below `dir`, or `dir` itself for ""), with all below it when `recursive`.
Fd clone_tree(int dir, const char* path, bool recursive);

struct MountChange {
  uint64_t set = 0;          // MOUNT_ATTR_*
  uint64_t clear = 0;        // MOUNT_ATTR_*
  uint64_t propagation = 0;  // MS_PRIVATE, MS_SLAVE, MS_SHARED or MS_UNBINDABLE
};
int change_mount(int mount, const MountChange& change, bool recursive);

// Has a detached mount show its files' owners through the map of the user namespace behind `user_namespace`.
// EINVAL: its file system cannot (overlay cannot; what it lies on can).
int map_owners(int mount, int user_namespace);

// Puts a detached mount on the directory or file behind the descriptor `target`.
int attach_mount(int mount, int target);

// Takes down what is mounted on `path`; nothing there, or no such path, is as wanted.
int unmount(const char* path);

// A detached mount of the host's /dev/null, through which nothing about that node can be changed. ENODEV: it is something else.
Fd null_mount();

// Whether both descriptors are on the same file.
bool is_same_file(int one, int other);
// Whether the descriptor is on a file system of that kind: PROC_SUPER_MAGIC …
bool is_on(int fd, long magic);
// Whether it is the device that /dev/null is to be.
bool is_null_device(int fd);
// Whether the descriptor is the root of a procfs.
bool is_proc_root(int fd);

// MS_* flags of a mount as MOUNT_ATTR_*.
uint64_t mount_attributes(uint64_t ms_flags);

}  // namespace keelson
