// A nearly empty mount namespace: a read-only directory for a container's root, and the host's /dev/null. The daemon
// creates one (native/addon/mount_namespace.h), and containers start from a copy of it. A copy of the host's namespace
// would contain all mounts of the host and its pods; for every 250 of them the kernel takes 0.7 ms to create the copy, and
// again to destroy it.
#pragma once

namespace keelson {

constexpr const char* empty_mounts_root = "/root";

}  // namespace keelson
