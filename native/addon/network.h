// A pod's network namespace as the daemon needs it: kept alive by a pin, and looked into.
#pragma once

#include <string>

#include "common/error.h"

namespace keelson {

// A bind mount of the namespace at `space` on the file `pin` (made when missing) keeps it alive.
Status pin_namespace(const std::string& space, const std::string& pin);

// Whether the network namespace at `space` has an interface of that name. Kind::not_found when nothing is at `space`.
Result<bool> has_interface(const std::string& space, const std::string& interface);

// proc(5) net/dev of the network namespace at `space`: its interfaces with their counters. Errors as above.
Result<std::string> read_interfaces(const std::string& space);

}  // namespace keelson
