// The mount namespace that containers begin with (common/empty_mounts.h).
#pragma once

#include "common/error.h"
#include "common/fd.h"

namespace keelson {

// It lives as long as a descriptor of it does.
Result<Fd> empty_mount_namespace();

}  // namespace keelson
