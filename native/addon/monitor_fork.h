// Asks the fork server for a new monitor (../PROTOCOL.md, "Start").
#pragma once

#include <string>

#include "common/error.h"
#include "common/fd.h"

namespace keelson {

// Sends the pod directory and the write end of a new pipe over the server's socket, and returns the read end, on which the
// monitor reports its start. Does not block: EAGAIN if the server's queue is full, EPIPE or ECONNRESET if it has exited.
Result<Fd> ask_for_fork(int socket, const std::string& pod_directory);

}  // namespace keelson
