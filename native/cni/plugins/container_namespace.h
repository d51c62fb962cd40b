// The network namespace that a call is about.
#pragma once

#include <optional>

#include "cni/invocation.h"
#include "cni/netlink/network_namespace.h"
#include "cni/plugin_error.h"

namespace keelson {

// Refuses this process's own: interfaces would be made or deleted on the host.
Outcome<Fd> open_container_namespace(const Invocation& invocation);

// The same for DEL, which nothing to do is fine for: none is given, or it is gone already.
Outcome<std::optional<Fd>> open_remaining_namespace(const Invocation& invocation);

}  // namespace keelson
