// The home directory of a user, from /etc/passwd in the root of the calling child, including what a pod mounts there.
// Called between clone and exec, so it does not allocate.
#pragma once

#include <sys/types.h>

#include <cstddef>

namespace keelson {

constexpr size_t max_home = 1024;  // including the NUL; longer lines of the file are skipped

// "/" if the file has no entry for the user. Reads at most 1 MiB of it.
void find_home(uid_t uid, char (&home)[max_home]);

}  // namespace keelson
