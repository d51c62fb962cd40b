// The system calls that unpacking makes; any other ends the process (SIGSYS).
//
// CAP_SYS_ADMIN, kept for trusted.* attributes alone, thus opens nothing else: no mount, namespace, BPF or
// device call is left. Memory can never be made executable.
#pragma once

#include "common/error.h"

namespace keelson {

// For this thread and those it starts. Needs no_new_privs. There is no way back.
Status allow_only_unpacking();

}  // namespace keelson
