// Asking the fork server, from which monitors come, for one (../PROTOCOL.md, "Start").
#pragma once

#include <string>

#include "common/error.h"
#include "common/fd.h"

namespace keelson {

// Sends the pod directory and the write end of a new pipe over the server's socket, and returns the read end: what the monitor
// says of its start. Does not wait: a server that takes nothing any more is EAGAIN, one that is gone EPIPE or ECONNRESET.
Result<Fd> ask_for_fork(int socket, const std::string& pod_directory);

}  // namespace keelson
