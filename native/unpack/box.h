// Namespaces of the unpacker's own, with the layer's directory as the whole file tree.
//
// A decoder that bytes from the network have taken over finds nothing but the layer it writes: no other
// directory of the host, no network, no device (the layer's mount opens none, whoever makes them).
// No PID namespace: it would take a second process to relay to, and the filter of system calls
// (system_calls.h) leaves no call that names a process.
#pragma once

#include "common/error.h"
#include "common/fd.h"

namespace keelson {

// Before anything is opened: what is opened earlier belongs to the host's mounts. For a process of one thread.
Status leave_namespaces();

// Makes `directory` the root of the file tree and lets go of the host's. Answers the new root, for reading;
// of what was open before, only descriptors of files may be kept.
Result<Fd> enter_box(Fd directory);

}  // namespace keelson
