// Numbers out of the same files of many directories, as stats take them from cgroups.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/fd.h"

namespace keelson {

// For a figure that is missing, unreadable or no number ("max").
constexpr uint64_t no_figure = UINT64_MAX;

// For each directory, each figure: "FILE" is a file's only number, "FILE KEY" that of a flat keyed one, "FILE KEY
// SUBKEY" that of a nested keyed one (cgroup-v2.rst, Interface Files). A decimal point is left out: 1.50 is 150.
// A file is read once for all of its figures that stand one after the other.
std::vector<uint64_t> read_figures(const std::vector<std::string>& directories, const std::vector<std::string>& figures);

// The same of directories that are asked again and again: their files stay open, for to open one costs twice what it
// costs to read it. Many threads may use it at once.
class FiguresReader {
 public:
  // A quarter of the descriptors that the process may have, the rest being for others.
  FiguresReader();
  explicit FiguresReader(size_t most_open) : most_open_(most_open) {}

  // As read_figures(). What finds no room is opened and closed again.
  std::vector<uint64_t> read(const std::vector<std::string>& directories, const std::vector<std::string>& figures);
  // Closes their files: an open one keeps what is left of a cgroup in the kernel.
  void forget(const std::vector<std::string>& directories);
  size_t open_files() const;

 private:
  struct Files {
    std::mutex in_use;
    std::vector<std::pair<std::string, Fd>> open;
  };

  std::string read_file(Files& files, const std::string& directory, const std::string& name);
  std::shared_ptr<Files> files_of(const std::string& directory);
  bool take_room();
  void give_back_room(size_t files);

  const size_t most_open_;
  mutable std::mutex lock_;  // for what stands below
  size_t open_ = 0;
  std::unordered_map<std::string, std::shared_ptr<Files>> directories_;
};

}  // namespace keelson
