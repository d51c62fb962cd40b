// Owner, mode, extended attributes and times of what an entry made.
#pragma once

#include "common/error.h"
#include "unpack/tar_reader.h"

namespace keelson {

// Of an open file or directory; leaves times alone (later writes would change them again).
Status set_attributes(int fd, const Entry& entry);

// Of what is not opened: a symbolic link, a device, a fifo. `name` in `parent` itself, never its target. The
// mode is left as mknod(2) made it: before fchmodat2(2), Linux 6.6, nothing sets it without following links.
Status set_attributes_of_node(int parent, const char* name, const Entry& entry);

// Modification time, and access time the same: layers say nothing of it.
Status set_times(int fd, timespec mtime);

}  // namespace keelson
