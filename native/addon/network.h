// A pod's network namespace as the daemon needs it: kept alive by a pin, and looked into.
#pragma once

#include <string>
#include <vector>

#include "common/error.h"

namespace keelson {

// A bind mount of the namespace at `space` on the file `pin` (made when missing) keeps it alive.
Status pin_namespace(const std::string& space, const std::string& pin);

// The addresses of an interface in the network namespace at `space`, textual, IPv4 and IPv6.
// Kind::not_found when no interface there has that name, or nothing is at `space`.
Result<std::vector<std::string>> interface_addresses(const std::string& space, const std::string& interface);

}  // namespace keelson
