// How the unpacker gives up its powers before the first byte from outside is read.
//
// A decoder that bytes from the network have taken over finds nothing but the layer it writes: no other directory of
// the host, no network, no device (the layer's mount opens none, whoever makes them), a handful of privileges, and
// the system calls of unpacking. No PID namespace: it would take a second process to relay to, and the filter leaves
// no call that names a process.
#pragma once

#include "common/error.h"
#include "common/fd.h"

namespace keelson {

// Namespaces of its own, before anything is opened: what is opened earlier belongs to the host's mounts. For a
// process of one thread.
Status leave_namespaces();

// Behind leave_namespaces(): the two steps below, and then the system calls that unpacking makes: any other ends the
// process (SIGSYS). CAP_SYS_ADMIN, kept for trusted.* attributes alone, thus opens nothing else: no mount, namespace, BPF
// or device call is left. Memory can never be made executable. For this thread and those it starts; no way back. Answers
// the directory, opened again; of what was open before, only descriptors of files may be kept.
Result<Fd> confine(Fd directory);

// Makes `directory` the root of the file tree and lets go of the host's. Answers the new root, for reading.
Result<Fd> enter_box(Fd directory);

// Keeps CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD, SETFCAP and, for trusted.overlay.opaque, SYS_ADMIN.
// No new privileges, not dumpable, no core file, death with the parent. For a process that has one thread yet.
Status drop_privileges();

}  // namespace keelson
