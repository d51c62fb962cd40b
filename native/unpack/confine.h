// Everything that stands between a fault in a decoder and the host, in the order in which it must be taken.
#pragma once

#include "common/error.h"
#include "common/fd.h"

namespace keelson {

// Behind leave_namespaces() and before the first byte from outside is read: the layer's directory becomes the
// file tree, privileges and system calls shrink to those of unpacking. Answers the directory, opened again.
Result<Fd> confine(Fd directory);

}  // namespace keelson
