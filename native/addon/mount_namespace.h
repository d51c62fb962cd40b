// Creates the mount namespace that containers start from (common/empty_mounts.h).
#pragma once

#include "common/error.h"
#include "common/fd.h"

namespace keelson {

// The namespace lives as long as a descriptor of it is open.
Result<Fd> empty_mount_namespace();

}  // namespace keelson
