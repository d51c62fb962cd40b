// Paths inside a container's root, which its image or a neighbour may have filled
// with links: resolved by the kernel with openat2(RESOLVE_IN_ROOT), created one
// component at a time, so that nothing outside is opened or made even while
// somebody renames things under us. Called between clone and exec: no allocation.
#pragma once

#include <cstdint>

namespace keelson {

// openat2 below the descriptor `root`; O_CLOEXEC is added, magic links are refused.
// `resolve` adds RESOLVE_* to that. -1 and errno on failure.
int open_in_root(int root, const char* path, uint64_t flags, uint64_t resolve = 0);

// Opens (O_PATH) the directory or file `path`, made with its missing parents (mode
// 0755, files 0644, less the umask) when it is not there. A symbolic link
// that leads nowhere has its target made, inside the root.
int make_directory_in_root(int root, const char* path);
int make_file_in_root(int root, const char* path);

// Same for the directory that is to hold the last component, which `name` is set to.
int make_parent_in_root(int root, const char* path, const char** name);

}  // namespace keelson
