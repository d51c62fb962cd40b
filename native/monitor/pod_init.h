// PID 1 of a pod with a shared PID namespace: ours, built in, in place of a pause image.
#pragma once

#include <sys/types.h>

#include "../common/error.h"

namespace keelson {

// Bears it in a new PID namespace and the caller's other ones, with an empty read-only
// root and no capability; in the user namespace behind the descriptor, unless that is -1. It reaps orphans and does nothing else; it dies by
// SIGKILL from the monitor, and with the monitor.
Result<pid_t> start_pod_init(int user_namespace);

}  // namespace keelson
