// Pins a pod's network namespace and reads its interfaces.
#pragma once

#include <string>

#include "common/error.h"

namespace keelson {

// Keeps the namespace at `space` alive with a bind mount on the file `pin`, which is created when missing.
Status pin_namespace(const std::string& space, const std::string& pin);

// Whether the network namespace at `space` has an interface of that name. Kind::not_found when `space` is
// missing or not a network namespace.
Result<bool> has_interface(const std::string& space, const std::string& interface);

// /proc/net/dev (proc_pid_net(5)) of the network namespace at `space`: its interfaces with their counters. Errors as above.
Result<std::string> read_interfaces(const std::string& space);

}  // namespace keelson
