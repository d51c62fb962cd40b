// Reading many small files at once, opening files inside untrusted directories, flushing a file system, the daemon's lock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/fd.h"

namespace keelson {

using FileContents = std::vector<std::optional<std::string>>;

// One entry for each path: the file's content, or nothing when it is missing, unreadable, not a regular file or longer than
// `limit` bytes. Meant for cgroup and procfs files.
FileContents read_files(const std::vector<std::string>& paths, size_t limit);

// Opens the regular file `name` below `directory` for reading. Follows no symlink, and no `..` that leads out of it. No Fd
// when there is no such file.
Result<Fd> open_inside(const std::string& directory, const std::string& name);

// Opens whatever is at `path` below `root` with O_PATH: a FIFO or a device must not really be opened. `resolve`: RESOLVE_*
// of openat2(2). No Fd when these flags let it reach nothing there.
Result<Fd> find_inside(int root, const std::string& path, uint64_t resolve);

// Reopens the regular file `found` for reading. `name` is for the error.
Result<Fd> open_found(const Fd& found, const std::string& name);

// syncfs(2) of the file system that an open file is on. The kernel reports bytes that could not be written since the file
// was opened once to each open file description.
Status sync_file_system(int descriptor);

// Takes an exclusive flock(2) on the file, which is created when missing (mode 0600). The lock is held until the descriptor
// is closed. No Fd when another process holds it.
Result<Fd> try_lock(const std::string& path);

}  // namespace keelson
