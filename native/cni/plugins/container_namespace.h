// Opens the network namespace of a call's container.
#pragma once

#include <optional>

#include "cni/invocation.h"
#include "cni/netlink/network_namespace.h"
#include "cni/plugin_error.h"

namespace keelson {

// Refuses this process's own namespace: interfaces would be created or deleted on the host.
Outcome<Fd> open_container_namespace(const Invocation& invocation);

// The same for DEL: nothing if no namespace is given or it no longer exists.
Outcome<std::optional<Fd>> open_remaining_namespace(const Invocation& invocation);

}  // namespace keelson
