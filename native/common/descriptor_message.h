// A message with a descriptor over a unix socket (SCM_RIGHTS in unix(7)). Neither way allocates: they serve between fork and
// exec too.
#pragma once

#include <sys/types.h>

#include <span>
#include <string_view>

#include "common/fd.h"

namespace keelson {

// sendmsg(2) with MSG_NOSIGNAL beside `flags`; its result, and errno.
ssize_t send_with_descriptor(int socket, std::string_view content, int descriptor, int flags);

// recvmsg(2) with `flags`; `size` is its result, errno too, and says how much of `content` is filled. No Fd when the message
// has none. Of several descriptors none stays open.
Fd receive_with_descriptor(int socket, std::span<char> content, ssize_t& size, int flags);

}  // namespace keelson
