// A container's root mounted on the host at <bundle>/rootfs, and the images its mounts show, for OCI runtime binaries.
#pragma once

#include <memory>
#include <string>

#include "monitor/server/loop.h"
#include "monitor/server/reaper.h"
#include "monitor/setup/spawn.h"
#include "monitor/setup/spec.h"

namespace keelson {

// By a child of its own, for a mount can take its time. The runtime is to make the root read-only, if it is to be;
// the image's volumes stay writable. A failure has left nothing behind when `done` is called.
std::shared_ptr<Attempt> mount_host_rootfs(Loop& loop, Reaper& reaper, const RootfsSpec& rootfs,
                                           const std::string& bundle, bool readonly_root, DoneStatus done);
// Not mounted is fine.
Status unmount_host_rootfs(const RootfsSpec& rootfs, const std::string& bundle);

// After a start that failed: the writable layer can be used for another try.
void undo_host_rootfs(const RootfsSpec& rootfs, const std::string& bundle);

}  // namespace keelson
