// Which cgroup hierarchies are mounted. Source: proc_pid_mountinfo(5).
#include <algorithm>

#include "cgroup.h"
#include "cgroup_files.h"

namespace keelson {

namespace {

constexpr std::string_view v1_controllers[] = {
    "cpu",     "cpuacct",  "cpuset",     "memory",  "devices", "freezer", "blkio", "pids",
    "net_cls", "net_prio", "perf_event", "hugetlb", "rdma",    "misc",
};

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == text.npos) return parts;
    text.remove_prefix(end + 1);
  }
}

bool is_controller(std::string_view option) {
  return option.starts_with("name=") || std::ranges::find(v1_controllers, option) != std::end(v1_controllers);
}

}  // namespace

Result<CgroupHost> CgroupHost::detect() {
  Result<std::string> mounts = read_cgroup_file("/proc/self/mountinfo");
  if (!mounts) return std::unexpected(mounts.error());
  CgroupHost host;
  for (std::string_view line : split(*mounts, '\n')) {
    size_t dash = line.find(" - ");
    if (dash == line.npos) continue;
    auto front = split(line.substr(0, dash), ' ');
    auto back = split(line.substr(dash + 3), ' ');
    // Field 4 is the part of the hierarchy that is mounted: only a whole one is of use.
    if (front.size() < 5 || back.size() < 3 || front[3] != "/") continue;
    const std::string mount_point(front[4]);
    if (back[0] == "cgroup2" && host.v2_root_.empty()) host.v2_root_ = mount_point;
    if (back[0] != "cgroup") continue;
    for (std::string_view option : split(back[2], ',')) {
      if (is_controller(option) && host.v1_root(option).empty()) host.v1_.emplace_back(option, mount_point);
    }
  }
  if (host.v2_root_.empty() && host.v1_.empty()) {
    return fail(Kind::system, "find the cgroup hierarchies", "none is mounted on this host");
  }
  host.unified_only_ = host.v1_.empty();
  return host;
}

std::vector<std::string> CgroupHost::v1_roots() const {
  std::vector<std::string> roots;
  for (const auto& [controller, mount_point] : v1_) {
    if (std::ranges::find(roots, mount_point) == roots.end()) roots.push_back(mount_point);
  }
  return roots;
}

std::string CgroupHost::v1_root(std::string_view controller) const {
  for (const auto& [name, mount_point] : v1_) {
    if (name == controller) return mount_point;
  }
  return "";
}

}  // namespace keelson
