// Puts down every privilege that unpacking does not need, before the first byte of the layer is read.
#pragma once

#include "common/error.h"

namespace keelson {

// Keeps CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD, SETFCAP and, for trusted.overlay.opaque, SYS_ADMIN.
// No new privileges, not dumpable, no core file, death with the parent. For a process that has one thread yet.
Status drop_privileges();

}  // namespace keelson
