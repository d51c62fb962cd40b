// Sysctls below /proc/sys/net of this process's network namespace.
#pragma once

#include <string>

#include "common/error.h"

namespace keelson {

// `path` is relative to /proc/sys. Writes only if the value differs: a correct setting may be read-only.
Status set_sysctl(const std::string& path, const char* value);

// Ignores errors: for settings that a kernel may lack (no IPv6), or that are optional.
void try_sysctl(const std::string& path, const char* value);

// Enables forwarding of that family's packets between interfaces.
Status enable_forwarding(int family);

}  // namespace keelson
