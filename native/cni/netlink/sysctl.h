// Settings below /proc/sys/net of the network namespace that this process is in.
#pragma once

#include <string>

#include "common/error.h"

namespace keelson {

// `path` from /proc/sys on. Written only if it says something else: what is right may well be read-only.
Status set_sysctl(const std::string& path, const char* value);

// For settings that a kernel may lack (no IPv6), or that only help.
void try_sysctl(const std::string& path, const char* value);

// Packets of that family are passed on between interfaces.
Status enable_forwarding(int family);

}  // namespace keelson
