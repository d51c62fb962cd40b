// What the kernel makes somebody wait for, and nothing depends on: a child process does the waiting, and this one, with
// the runtime behind it, goes on.
#pragma once

#include <functional>

#include "cni/netlink/netlink.h"
#include "common/error.h"

namespace keelson {

// Runs `work` in a child, which ends with it. The child has this process's descriptors but for standard input and
// output: a runtime that reads those to their end does not wait for it. Nor does whoever kills the process group.
Status run_in_background(const std::function<void()>& work);

// Closing a socket of nftables waits for all that was changed lately to be freed, a grace period of RCU or two (3 to 70
// ms), and keeps every other change waiting meanwhile. A while later there is nothing left to wait for: a child has the
// socket until then.
void close_later(NetlinkSocket netlink);

}  // namespace keelson
