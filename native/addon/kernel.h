// Single system calls that Node lacks: lazy unmount, sealed memory files, the bounding set.
#pragma once

#include <cstdint>
#include <string>

#include "../common/error.h"
#include "../common/fd.h"

namespace keelson {

// umount2(MNT_DETACH | UMOUNT_NOFOLLOW); not mounted or missing is fine.
Status unmount(const std::string& path);

// A copy of a regular file in memory that nobody can change any more, root included, and that
// can be executed as /proc/self/fd/N. What runs from it can never be overwritten on disk
// through /proc/<pid>/exe (CVE-2019-5736).
Result<Fd> sealed_copy(const std::string& path);

// The capability bounding set of the calling thread: bit n stands for capability n.
uint64_t bounding_capabilities();

}  // namespace keelson
