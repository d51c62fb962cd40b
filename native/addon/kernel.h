// Kernel and C library calls that Node lacks: lazy unmount, sealed memory files, the capability bounding set, unblocking a
// signal, releasing memory.
#pragma once

#include <cstdint>
#include <string>

#include "common/error.h"
#include "common/fd.h"

namespace keelson {

// umount2(MNT_DETACH | UMOUNT_NOFOLLOW). A path that is not mounted or missing is not an error.
Status unmount(const std::string& path);

// Copies a regular file into a sealed memory file that nobody, root included, can change, and that can be executed as
// /proc/self/fd/N. A process that runs from it gives no access to the file on disk through /proc/<pid>/exe (CVE-2019-5736).
Result<Fd> sealed_copy(const std::string& path);

// The capability bounding set of the calling thread: bit n is capability n.
uint64_t bounding_capabilities();

// Unblocks SIGUSR1 for this thread. Node blocks it at start, for its debugger, and with --disable-sigusr1 it stays blocked
// even if there are listeners.
Status unblock_usr1();

// Makes glibc keep little freed memory: responses come and go in buffers of tens of KiB, and the fragmentation they cause
// would grow the heap to three times what is in use. Applies to the whole process, from the moment the addon is loaded.
void limit_kept_memory();

// Until limit_kept_memory() is called again, buffers of 64 KiB reuse freed memory. With a mapping for each, a buffer costs
// two system calls and a fault for every page.
void reuse_freed_buffers();

// Returns freed memory of the C heap to the kernel; otherwise glibc keeps up to tens of MiB.
void trim_heap();

}  // namespace keelson
