// Single calls of kernel and C library that Node lacks: lazy unmount, sealed memory files, the bounding set, a signal
// let through, memory given back.
#pragma once

#include <cstdint>
#include <string>

#include "common/error.h"
#include "common/fd.h"

namespace keelson {

// umount2(MNT_DETACH | UMOUNT_NOFOLLOW); not mounted or missing is fine.
Status unmount(const std::string& path);

// A copy of a regular file in memory that nobody can change any more, root included, and that
// can be executed as /proc/self/fd/N. What runs from it can never be overwritten on disk
// through /proc/<pid>/exe (CVE-2019-5736).
Result<Fd> sealed_copy(const std::string& path);

// The capability bounding set of the calling thread: bit n stands for capability n.
uint64_t bounding_capabilities();

// Lets SIGUSR1 through to this thread. Node starts with it blocked, for its debugger, and with --disable-sigusr1 it
// stays so, listeners or not.
Status unblock_usr1();

// Makes glibc keep little of what is freed: answers come and go in buffers of tens of KiB, and in the holes that they
// leave a heap grows to three times what is in use. For the whole process; it begins with this.
void limit_kept_memory();

// Until limit_kept_memory() is called again: buffers of 64 KiB come out of memory that others of them have left. Mapped
// one by one, each costs two calls and a fault for every page.
void reuse_freed_buffers();

// Gives freed memory of the C heap back to the kernel: by itself glibc keeps up to tens of MiB.
void trim_heap();

}  // namespace keelson
