// How many files and sockets processes hold open. Source: proc_pid_fd(5).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/error.h"

namespace keelson {

struct OpenDescriptors {
  uint64_t all = 0;
  uint64_t sockets = 0;
};

// The sum over directories like /proc/PID/fd. Directories of processes that have exited count as empty. Fails with kind
// `invalid` past `limit` descriptors: a process may hold a million.
Result<OpenDescriptors> count_descriptors(const std::vector<std::string>& directories, uint64_t limit);

}  // namespace keelson
