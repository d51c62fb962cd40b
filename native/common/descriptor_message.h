// Sends and receives a message with a descriptor over a unix socket (SCM_RIGHTS in unix(7)). Neither function allocates, so
// they can be used between fork and exec.
#pragma once

#include <sys/types.h>

#include <span>
#include <string_view>

#include "common/fd.h"

namespace keelson {

// sendmsg(2) with MSG_NOSIGNAL in addition to `flags`. Returns its result, and leaves its errno.
ssize_t send_with_descriptor(int socket, std::string_view content, int descriptor, int flags);

// recvmsg(2) with `flags`. `size` is its result, the number of bytes filled in `content`, with errno set on failure. No Fd
// when the message carries none; if it carries several, all are closed.
Fd receive_with_descriptor(int socket, std::span<char> content, ssize_t& size, int flags);

}  // namespace keelson
