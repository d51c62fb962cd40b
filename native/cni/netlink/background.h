// Moves waits in the kernel that nothing depends on to a child process, so that the plugin, and the runtime that waits for
// it, can continue.
#pragma once

#include <functional>

#include "cni/netlink/netlink.h"
#include "common/error.h"

namespace keelson {

// Runs `work` in a child, which then exits. The child has this process's descriptors except the standard streams, so that a
// runtime that reads those to the end does not wait for it. It has its own session, so that it survives a kill of the
// process group.
Status run_in_background(const std::function<void()>& work);

// Closing an nftables socket waits until recently changed objects are freed, one or two RCU grace periods (3 to 70 ms), and
// blocks all other changes meanwhile. A little later there is nothing left to wait for: a child keeps the socket until then.
void close_later(NetlinkSocket netlink);

}  // namespace keelson
