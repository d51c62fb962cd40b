// The cgroup hierarchies that this host has mounted, found once from /proc/self/mountinfo.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/error.h"

namespace keelson {

class CgroupHost {
 public:
  static Result<CgroupHost> detect();
  // From a file of that format.
  static Result<CgroupHost> read(const char* path);
  bool unified() const { return unified_only_; }           // cgroup v2 alone
  const std::string& v2_root() const { return v2_root_; }  // "" when there is none; ".../unified" on hybrid
  const std::vector<std::pair<std::string, std::string>>& v1() const { return v1_; }  // controller, mount point
  std::vector<std::string> v1_roots() const;               // the mount points, each once
  std::string v1_root(std::string_view controller) const;  // "" when it is not mounted

 private:
  void take(std::string_view line);

  bool unified_only_ = false;
  std::string v2_root_;
  std::vector<std::pair<std::string, std::string>> v1_;
};

}  // namespace keelson
