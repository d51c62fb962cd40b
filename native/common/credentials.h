// System calls that change the credentials of the calling thread only.
//
// The C library's functions change those of all threads (nptl(7)). A process cloned from one with several threads has only
// one of them, and these functions could wait for the others forever.
#pragma once

#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstddef>

namespace keelson {

// Real, effective and saved ids, setresuid(2) and setresgid(2). 0, or -1 and errno.
inline int set_uids(uid_t uid) { return static_cast<int>(syscall(SYS_setresuid, uid, uid, uid)); }
inline int set_gids(gid_t gid) { return static_cast<int>(syscall(SYS_setresgid, gid, gid, gid)); }
// Supplementary groups, setgroups(2). 0, or -1 and errno.
inline int set_groups(size_t count, const gid_t* groups) {
  return static_cast<int>(syscall(SYS_setgroups, count, groups));
}

}  // namespace keelson
