// Compiled seccomp filters: reading one, and asking it about a system call before it is loaded.
#pragma once

#include <linux/filter.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "common/error.h"

namespace keelson {

using SeccompFilter = std::vector<sock_filter>;

// Empty for an empty path.
Result<SeccompFilter> read_filter(const std::string& path);

// Whether the filter lets a system call of this process's architecture through to the kernel.
// It runs the program as the kernel does (net/core/filter.c); one that it cannot follow allows nothing.
bool allows(const SeccompFilter& filter, int number, const std::array<uint64_t, 6>& arguments);

}  // namespace keelson
