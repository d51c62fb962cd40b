// PID 1 of a pod with a shared PID namespace: ours, built in, in place of a pause image.
#pragma once

#include <sys/types.h>

#include "common/error.h"
#include "common/fd.h"

namespace keelson {

class Loop;
class Reaper;

struct PodInit {
  pid_t pid = 0;
  // A mount namespace whose root is a procfs of the PID namespace and which holds nothing else. Who is outside
  // cannot make such a procfs; nobody but the monitor gets at this one, on which nothing is masked.
  Fd procfs_space;
};

// Spawns it in a new PID namespace and the caller's other ones, with an empty read-only
// root and no capability; in the user namespace behind the descriptor, unless that is -1. It reaps orphans
// and does nothing else; it dies by SIGKILL from the monitor, and with the monitor. Runs the loop meanwhile.
Result<PodInit> start_pod_init(Loop& loop, Reaper& reaper, int user_namespace);

}  // namespace keelson
