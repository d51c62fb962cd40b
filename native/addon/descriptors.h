// How many files and sockets a process holds open. Source: proc_pid_fd(5).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace keelson {

struct OpenDescriptors {
  uint64_t all = 0;
  uint64_t sockets = 0;
};

// One answer for each directory like /proc/PID/fd: none for a process that is gone, and none past `limit` descriptors of
// all together, for a process may hold a million.
std::vector<std::optional<OpenDescriptors>> count_descriptors(const std::vector<std::string>& directories,
                                                              uint64_t limit);

}  // namespace keelson
