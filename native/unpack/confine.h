// Drops the unpacker's privileges before it reads the first untrusted byte.
//
// A decoder that data from the network has taken over can reach only the layer that it writes: no other directory of the
// host, no network, no device (the layer is mounted nodev), a handful of capabilities, and the system calls that unpacking
// needs. There is no PID namespace: it would take a second process, and the filter allows no call that refers to a process.
#pragma once

#include "common/error.h"
#include "common/fd.h"

namespace keelson {

// Moves to new namespaces. Must be called before anything is opened (an earlier descriptor refers to the host's mounts), in
// a process with one thread.
Status leave_namespaces();

// After leave_namespaces(): does the two steps below, and then allows only the system calls that unpacking needs; any other
// one kills the process (SIGSYS). So CAP_SYS_ADMIN, kept only for trusted.* attributes, is of no other use: no mount,
// namespace, BPF or device call is left. Memory can never be made executable. Irrevocable, for this thread and those it
// starts. Returns a new descriptor of the directory; of the earlier descriptors, only those of files may be kept.
Result<Fd> confine(Fd directory);

// Makes `directory` the root directory and detaches the host's mounts. Returns the new root, opened for reading.
Result<Fd> enter_box(Fd directory);

// Keeps CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD, SETFCAP and, for trusted.overlay.opaque, SYS_ADMIN.
// Sets no_new_privs, not dumpable, no core file, and SIGKILL when the parent exits. Call it while there is only one thread.
Status drop_privileges();

}  // namespace keelson
