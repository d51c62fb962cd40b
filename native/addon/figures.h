// Numbers out of the same files of many directories, as stats take them from cgroups.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace keelson {

// For a figure that is missing, unreadable or no number ("max").
constexpr uint64_t no_figure = UINT64_MAX;

// For each directory, each figure: "FILE" is a file's only number, "FILE KEY" that of a flat keyed one, "FILE KEY
// SUBKEY" that of a nested keyed one (cgroup-v2.rst, Interface Files). A decimal point is left out: 1.50 is 150.
// A file is read once for all of its figures that stand one after the other.
std::vector<uint64_t> read_figures(const std::vector<std::string>& directories, const std::vector<std::string>& figures);

}  // namespace keelson
