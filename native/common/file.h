// Reads whole files up to a size limit, writes until all bytes are written, and creates directories.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "common/error.h"
#include "common/fd.h"

namespace keelson {

// open(2), close-on-exec.
Result<Fd> open_file(const std::string& path, int flags, mode_t mode = 0);

// Reads `fd` up to its end; Kind::invalid when that is more than `limit` bytes. `name` is for the error.
Result<std::string> read_to_end(int fd, size_t limit, const std::string& name);

// The same of the file at `path`.
Result<std::string> read_file(const std::string& path, size_t limit);

// Creates the directory and its parents, as `mkdir -p` does; existing ones are not changed.
Status make_directories(const std::string& path, mode_t mode);

// write(2) until everything is written; `step` is for the error.
Status write_all(int fd, std::span<const uint8_t> bytes, const char* step);

}  // namespace keelson
