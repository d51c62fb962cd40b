// Sources: cgroup-v1/*.rst, sched-bwc.rst, config-linux.md.
#include "monitor/cgroup/v1.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/fd.h"
#include "monitor/cgroup/devices.h"
#include "monitor/cgroup/cgroupfs.h"

namespace keelson::v1 {

namespace {

// One container's v1 directories, and the writes collected for them. Handles the OCI resources that the daemon writes
// (pod/spec/resources.ts). The name of a file starts with that of its controller.
class Resources {
 public:
  Resources(const CgroupHost& host, const std::string& path) : host_(host), path_(path) {}

  Status collect(const Json& resources) {
    collect_cpu(resources["cpu"]);
    TRY(collect_memory(resources["memory"]));
    collect_huge_pages(resources["hugepageLimits"]);
    if (!resources["unified"].members().empty()) {
      return fail(Kind::invalid, "apply linux.resources.unified", "the controllers of this host are on cgroup v1");
    }
    return collect_devices(resources["devices"]);
  }

  Status commit() const {
    if (!missing_.empty()) {
      return fail(Kind::system, "limit " + missing_, "the cgroup controller " + missing_ + " is not mounted");
    }
    return writes_.commit();
  }

 private:
  static std::string_view controller_of(std::string_view name) { return name.substr(0, name.find('.')); }

  std::string file(std::string_view name) const {
    return host_.v1_root(controller_of(name)) + path_ + "/" + std::string(name);
  }

  bool is_mounted(std::string_view name) const { return !host_.v1_root(controller_of(name)).empty(); }

  void require(std::string_view name) {
    if (!is_mounted(name) && missing_.empty()) missing_ = controller_of(name);
  }

  void add(std::string_view name, std::string value) {
    require(name);
    writes_.add(file(name), std::move(value));
  }

  void order(std::string_view name, std::string value) {
    require(name);
    writes_.add_order(file(name), std::move(value));
  }

  // For files or controllers that a kernel may be built without.
  void optional(std::string_view name, std::string value) {
    if (is_mounted(name)) writes_.add_if_present(file(name), std::move(value));
  }

  void collect_cpu(const Json& cpu) {
    const int64_t shares = cpu["shares"].integer(), quota = cpu["quota"].integer(), period = cpu["period"].integer();
    if (shares > 0) add("cpu.shares", std::to_string(shares));
    // The kernel checks each file against the current value of the other: without a quota every period is accepted, and
    // after that every valid quota.
    if (quota != 0 && period > 0) add("cpu.cfs_quota_us", "-1");
    if (period > 0) add("cpu.cfs_period_us", std::to_string(period));
    if (quota != 0) add("cpu.cfs_quota_us", std::to_string(quota));
    if (!cpu["cpus"].string().empty()) add("cpuset.cpus", std::string(cpu["cpus"].string()));
    if (!cpu["mems"].string().empty()) add("cpuset.mems", std::string(cpu["mems"].string()));
  }

  Status collect_memory(const Json& memory) {
    static constexpr std::string_view limit_file = "memory.limit_in_bytes", swap_file = "memory.memsw.limit_in_bytes";
    const int64_t limit = memory["limit"].integer(), swap = memory["swap"].integer();
    if (limit > 0 && swap > 0 && swap < limit) {
      return fail(Kind::invalid, "limit memory", "the limit of memory plus swap is lower than the memory limit");
    }
    // The limit of memory plus swap must never be lower than that of memory alone: raise it first, lower it last.
    const bool swap_first = limit != 0 && swap != 0 && (swap < 0 || read_cgroup_number(file(swap_file)) < limit);
    if (swap_first) optional(swap_file, std::to_string(swap));
    if (swap == 0 && limit < 0) optional(swap_file, "-1");
    if (limit != 0) add(limit_file, std::to_string(limit));
    if (swap != 0 && !swap_first) optional(swap_file, std::to_string(swap));
    return {};
  }

  void collect_huge_pages(const Json& limits) {
    for (const Json& limit : limits.items()) {
      const std::string size(limit["pageSize"].string());
      if (size.find('/') != size.npos) continue;
      // Reservations are limited too, so that mmap fails instead of a later access.
      for (const char* file : {".limit_in_bytes", ".rsvd.limit_in_bytes"}) {
        optional("hugetlb." + size + file, std::to_string(limit["limit"].integer()));
      }
    }
  }

  Status collect_devices(const Json& devices) {
    if (devices.items().empty()) return {};
    for (const DeviceRule& rule : TRY(parse_device_rules(devices))) {
      order(rule.allow ? "devices.allow" : "devices.deny", to_v1_line(rule));
    }
    return {};
  }

  const CgroupHost& host_;
  const std::string& path_;
  CgroupWrites writes_;
  std::string missing_;
};

constexpr const char* cpuset_files[] = {"/cpuset.cpus", "/cpuset.mems"};

Result<bool> inherit(const std::string& directory, const char* file) {
  const std::string parent = directory.substr(0, directory.rfind('/'));
  const std::string inherited = TRY(read_cgroup_file(parent + file));
  if (inherited.empty()) return false;
  TRY(write_cgroup_file(directory + file, inherited));
  return true;
}

}  // namespace

Result<bool> inherit_cpuset(const std::string& directory) {
  for (const char* file : cpuset_files) {
    if (!TRY(inherit(directory, file))) return false;
  }
  return true;
}

Status fill_cpuset(const std::string& directory) {
  for (const char* file : cpuset_files) {
    if (TRY(read_cgroup_file(directory + file)).empty()) TRY(inherit(directory, file));
  }
  return {};
}

Status apply(const CgroupHost& host, const std::string& path, const Json& resources) {
  Resources wanted(host, path);
  TRY(wanted.collect(resources));
  return wanted.commit();
}

void thaw(const std::string& directory) {
  // Best effort: the removal reports what stays frozen.
  static_cast<void>(each_cgroup(directory, [](int parent, const std::string& name) -> Status {
    constexpr std::string_view thawed = "THAWED";
    const Fd state(openat(parent, (name + "/freezer.state").c_str(), O_WRONLY | O_CLOEXEC));
    if (state) static_cast<void>(!write(state.get(), thawed.data(), thawed.size()));
    return {};
  }));
}

}  // namespace keelson::v1
