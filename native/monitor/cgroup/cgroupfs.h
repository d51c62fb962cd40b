// cgroupfs: where the host's hierarchies are mounted, and access to their files and directories.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/error.h"
#include "common/json.h"

namespace keelson {

// The hierarchies as found by the daemon (native/files/cgroup-hierarchies.ts).
class CgroupHost {
 public:
  // `cgroup_hierarchies` of sandbox.json.
  static Result<CgroupHost> parse(const Json& hierarchies);
  bool unified() const { return unified_only_; }           // cgroup v2 only
  const std::string& v2_root() const { return v2_root_; }  // "" when there is none; ".../unified" on hybrid
  const std::vector<std::pair<std::string, std::string>>& v1() const { return v1_; }  // controller, mount point
  std::vector<std::string> v1_roots() const;               // the mount points, each once
  std::string v1_root(std::string_view controller) const;  // "" when it is not mounted

 private:
  bool unified_only_ = false;
  std::string v2_root_;
  std::vector<std::pair<std::string, std::string>> v1_;
};

constexpr size_t max_cgroup_file = 4 << 20;  // a cgroup.procs of half a million processes

// The content of a file without its trailing newline.
Result<std::string> read_cgroup_file(const std::string& path);
// The number in a file; -1 if it cannot be read.
int64_t read_cgroup_number(const std::string& path);
Status write_cgroup_file(const std::string& path, std::string_view value);

// Calls `visit` with the parent directory and the name of the cgroup and of each of its descendants; a container may
// have created any number of them, at any depth. A cgroup that no longer exists is not an error.
Status each_cgroup(const std::string& directory, const std::function<Status(int parent, const std::string& name)>& visit);
// Removes a cgroup and all its descendants that are empty. False: something is still inside, retry.
Result<bool> remove_cgroups(const std::string& directory);

// Writes that belong together: if one fails, the previous ones are undone.
class CgroupWrites {
 public:
  void add(std::string file, std::string value) { add(std::move(file), std::move(value), Form::setting); }
  // For files that not every kernel or disk has: a missing file is skipped.
  void add_if_present(std::string file, std::string value) {
    add(std::move(file), std::move(value), Form::optional_setting);
  }
  // For a write-only command file (devices.allow), which has no value that could be restored.
  void add_order(std::string file, std::string value) { add(std::move(file), std::move(value), Form::order); }
  Status commit() const;

 private:
  enum class Form { setting, optional_setting, order };
  struct Write {
    std::string file;
    std::string value;
    Form form;
  };
  void add(std::string file, std::string value, Form form) {
    writes_.push_back({std::move(file), std::move(value), form});
  }

  std::vector<Write> writes_;
};

}  // namespace keelson
