// The container's root: an overlay of the image's layers, mounted in the container's own mount namespace.
#pragma once

#include <string>

#include "child.h"
#include "spec.h"

namespace keelson {

struct RootfsPlan {
  RootfsSpec spec;
  std::string mountpoint;   // <bundle>/rootfs, on the host
  std::string old_options;  // for mount(2), where the kernel lacks "lowerdir+"
};

RootfsPlan plan_rootfs(const RootfsSpec& spec, std::string_view bundle);

// Mounts it and returns a descriptor of its root.
int mount_rootfs(const Child& child, const RootfsPlan& plan);

// After a start that failed: takes away overlay's mark that these directories were mounted
// "volatile", so that the start can be tried again on them.
void forget_failed_mount(const RootfsSpec& spec);

// Makes the mounted root the process's "/" and lets go of the host's tree.
void pivot_to(const Child& child, int root);

}  // namespace keelson
