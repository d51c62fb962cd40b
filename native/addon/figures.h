// Reads numbers (figures) from files of the same names for many cgroups, for their statistics.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/fd.h"

namespace keelson {

// Stands for a figure that is missing, unreadable or not a number ("max").
constexpr uint64_t no_figure = UINT64_MAX;

// Keeps the files open, as opening one costs twice as much as reading it. Thread-safe.
class FiguresReader {
 public:
  // Uses at most a quarter of the process's descriptor limit.
  FiguresReader();
  explicit FiguresReader(size_t most_open) : most_open_(most_open) {}

  // Returns every figure of every cgroup. "FILE" is a file's only number, "FILE KEY" a value of a flat keyed file, "FILE
  // KEY SUBKEY" a value of a nested keyed file (cgroup-v2.rst, Interface Files). FILE is a path with "*" in place of the
  // cgroup's. A decimal point is dropped: 1.50 is 150. A file is read once for all of its figures that are next to each
  // other in `figures`. Files beyond the limit are opened and closed again.
  std::vector<uint64_t> read(const std::vector<std::string>& cgroups, const std::vector<std::string>& figures);
  // Closes their files: an open file keeps a removed cgroup's remains in the kernel.
  void forget(const std::vector<std::string>& cgroups);
  size_t open_files() const;

 private:
  // The files of one cgroup, by pattern.
  struct Files {
    std::mutex in_use;
    std::vector<std::pair<std::string, Fd>> open;
  };

  size_t read_file(Files& files, const std::string& cgroup, const std::string& pattern, std::span<char> content);
  std::shared_ptr<Files> files_of(const std::string& cgroup);
  bool take_room();
  void release_room(size_t files);

  const size_t most_open_;
  mutable std::mutex lock_;  // guards the members below
  size_t open_ = 0;
  std::unordered_map<std::string, std::shared_ptr<Files>> cgroups_;
};

// FiguresReader::read() that leaves no file open.
std::vector<uint64_t> read_figures(const std::vector<std::string>& cgroups, const std::vector<std::string>& figures);

}  // namespace keelson
