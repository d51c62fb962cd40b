// A container's root mounted on the host at <bundle>/rootfs, and the images its mounts show, for OCI runtime binaries.
#pragma once

#include <string>

#include "monitor/setup/spec.h"

namespace keelson {

// The runtime is to make the root read-only, if it is to be; the image's volumes stay writable.
Status mount_host_rootfs(const RootfsSpec& rootfs, const std::string& bundle, bool readonly_root);
// Not mounted is fine.
Status unmount_host_rootfs(const RootfsSpec& rootfs, const std::string& bundle);

// After a start that failed: the writable layer can be used for another try.
void undo_host_rootfs(const RootfsSpec& rootfs, const std::string& bundle);

}  // namespace keelson
