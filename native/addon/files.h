// Reading many small files at once, one out of a directory that somebody else wrote, flushing a file system, the
// lock of a daemon.
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

// One entry for each path: what the file holds, or nothing when it is missing, unreadable,
// no regular file or longer than `limit` bytes. Meant for cgroup and procfs files.
FileContents read_files(const std::vector<std::string>& paths, size_t limit);

// Opens the regular file `name` below `directory` for reading, by no link and no `..` that leads out. No Fd when
// there is none such.
Result<Fd> open_inside(const std::string& directory, const std::string& name);

// What stands at `path` below `root`, only looked at (O_PATH): a FIFO or a device must not be opened for that.
// `resolve`: RESOLVE_* of openat2(2). No Fd when nothing is there that these let it reach.
Result<Fd> find_inside(int root, const std::string& path, uint64_t resolve);

// The regular file `found`, for reading. `name` is for the error.
Result<Fd> open_found(const Fd& found, const std::string& name);

// syncfs(2) of the file system that an open file is on. The kernel tells each open file description once of bytes that
// could not be written since it was opened.
Status sync_file_system(int descriptor);

// Takes an exclusive flock(2) on the file, made when missing (mode 0600); it holds until the
// descriptor is closed. No Fd when somebody else has it.
Result<Fd> try_lock(const std::string& path);

}  // namespace keelson
