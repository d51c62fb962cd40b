// Killing an exec'd process together with what it started.
#pragma once

#include <sys/types.h>

namespace keelson {

// SIGKILL to `leader`, its process group, and all its living descendants (up to 4096, by
// /proc/<pid>/task/*/children; a daemon that left the family before stays the container's).
// `leader` is our unreaped child and leads its session.
void kill_with_descendants(pid_t leader);

}  // namespace keelson
