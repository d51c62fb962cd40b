// What systemd gives a service: a socket to notify it on (sd_notify(3)), and sockets that it listens on already
// (sd_listen_fds(3)). The protocol is a datagram and a range of descriptors; libsystemd would be a library more to link.
#pragma once

#include <string>

#include "common/error.h"

namespace keelson {

// Sends "KEY=value" lines to the unix datagram socket at `path`, where a leading @ stands for an abstract name.
Status notify_manager(const std::string& path, const std::string& lines);

// Makes an inherited descriptor close-on-exec and answers the path that it listens on. Fails with kind `invalid` unless it
// is a listening unix stream socket with a path.
Result<std::string> adopt_listener(int descriptor);

}  // namespace keelson
