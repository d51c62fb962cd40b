// The home directory of a user, from the passwd file of the root that the calling child is in: what a pod mounts there counts.
// Called between clone and exec: no allocation.
#pragma once

#include <sys/types.h>

#include <cstddef>

namespace keelson {

constexpr size_t max_home = 1024;  // with the NUL at its end; longer lines of the file are passed over

// "/" where the file does not tell. At most 1 MiB of it is read.
void find_home(uid_t uid, char (&home)[max_home]);

}  // namespace keelson
