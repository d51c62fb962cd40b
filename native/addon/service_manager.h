// systemd's service interface: a socket for notifications (sd_notify(3)) and inherited listening sockets (sd_listen_fds(3)).
// The protocol is just a datagram and a range of descriptors, not worth linking libsystemd.
#pragma once

#include <string>

#include "common/error.h"

namespace keelson {

// Sends "KEY=value" lines to the unix datagram socket at `path`; a leading @ denotes an abstract address.
Status notify_manager(const std::string& path, const std::string& lines);

// Makes an inherited descriptor close-on-exec and returns the path that it listens on. Fails with kind `invalid` unless it
// is a listening unix stream socket with a path.
Result<std::string> adopt_listener(int descriptor);

}  // namespace keelson
