// Sources: cgroup-v1/*.rst, sched-bwc.rst, config-linux.md.
#include "monitor/cgroup/v1.h"

#include "monitor/cgroup/devices.h"
#include "monitor/cgroup/cgroupfs.h"

namespace keelson::v1 {

namespace {

bool present(const Json& json) { return !json.is_null(); }

// One container's v1 directories, and the writes that are collected for them.
class Resources {
 public:
  Resources(const CgroupHost& host, const std::string& path) : host_(host), path_(path) {}

  Status collect(const Json& resources) {
    collect_cpuset(resources["cpu"]);
    collect_cpu(resources["cpu"]);
    TRY(collect_memory(resources["memory"]));
    collect_pids(resources["pids"]);
    collect_block_io(resources["blockIO"]);
    collect_huge_pages(resources["hugepageLimits"]);
    collect_network(resources["network"]);
    TRY(collect_unified(resources["unified"]));
    return collect_devices(resources["devices"]);
  }

  Status commit() const {
    if (!missing_.empty()) {
      return fail(Kind::system, "limit " + missing_, "the cgroup controller " + missing_ + " is not mounted");
    }
    return writes_.commit();
  }

 private:
  std::string file(std::string_view controller, std::string_view name) {
    std::string root = host_.v1_root(controller);
    if (root.empty() && missing_.empty()) missing_ = controller;
    return root + path_ + "/" + std::string(name);
  }

  void number(std::string_view controller, std::string_view name, const Json& value) {
    if (present(value)) writes_.add(file(controller, name), std::to_string(value.integer()));
  }

  // Where a kernel may be built without the file or the whole controller.
  void optional(std::string_view controller, std::string name, std::string value) {
    std::string root = host_.v1_root(controller);
    if (!root.empty()) writes_.add_if_present(root + path_ + "/" + name, std::move(value));
  }

  void collect_cpuset(const Json& cpu) {
    if (!cpu["cpus"].string().empty()) {
      writes_.add(file("cpuset", "cpuset.cpus"), std::string(cpu["cpus"].string()));
    }
    if (!cpu["mems"].string().empty()) {
      writes_.add(file("cpuset", "cpuset.mems"), std::string(cpu["mems"].string()));
    }
  }

  void collect_cpu(const Json& cpu) {
    if (cpu["shares"].integer() > 0) number("cpu", "cpu.shares", cpu["shares"]);
    const bool quota = present(cpu["quota"]) && cpu["quota"].integer() != 0;
    const bool period = cpu["period"].integer() > 0;
    // The kernel checks each file against the others as they are at that moment; with no
    // quota and no burst every period passes, and then every quota that is valid at all.
    if (quota && period) writes_.add(file("cpu", "cpu.cfs_quota_us"), "-1");
    if (period) number("cpu", "cpu.cfs_period_us", cpu["period"]);
    if (present(cpu["burst"])) optional("cpu", "cpu.cfs_burst_us", "0");
    if (quota) number("cpu", "cpu.cfs_quota_us", cpu["quota"]);
    if (cpu["burst"].integer() > 0) number("cpu", "cpu.cfs_burst_us", cpu["burst"]);
    if (cpu["realtimePeriod"].integer() > 0) {
      optional("cpu", "cpu.rt_period_us", std::to_string(cpu["realtimePeriod"].integer()));
    }
    if (cpu["realtimeRuntime"].integer() > 0) {
      optional("cpu", "cpu.rt_runtime_us", std::to_string(cpu["realtimeRuntime"].integer()));
    }
    if (present(cpu["idle"])) optional("cpu", "cpu.idle", std::to_string(cpu["idle"].integer()));
  }

  int64_t current(std::string_view name) { return read_cgroup_number(file("memory", name)); }

  Status collect_memory(const Json& memory) {
    const int64_t limit = memory["limit"].integer();
    const int64_t swap = memory["swap"].integer();
    const std::string limit_file = "memory.limit_in_bytes", swap_file = "memory.memsw.limit_in_bytes";
    if (limit > 0 && swap > 0 && swap < limit) {
      return fail(Kind::invalid, "limit memory", "the limit of memory and swap together is below that of memory");
    }
    if (limit > 0 && memory["checkBeforeUpdate"].boolean() && current("memory.usage_in_bytes") > limit) {
      return fail(Kind::invalid, "limit memory", "more than the new limit is in use");
    }
    const bool sets_limit = limit != 0;
    // The sum with swap may at no moment be below the limit of memory alone: upwards it
    // goes first, downwards last.
    const bool swap_first = sets_limit && swap != 0 && (swap < 0 || current(swap_file) < limit);
    if (swap != 0 && swap_first) optional("memory", swap_file, std::to_string(swap));
    if (sets_limit && swap == 0 && limit < 0) optional("memory", swap_file, "-1");
    if (sets_limit) number("memory", limit_file, memory["limit"]);
    if (swap != 0 && !swap_first) optional("memory", swap_file, std::to_string(swap));
    if (memory["reservation"].integer() != 0) number("memory", "memory.soft_limit_in_bytes", memory["reservation"]);
    if (present(memory["swappiness"])) {
      optional("memory", "memory.swappiness", std::to_string(memory["swappiness"].integer()));
    }
    if (memory["disableOOMKiller"].boolean()) writes_.add(file("memory", "memory.oom_control"), "1");
    return {};
  }

  void collect_pids(const Json& pids) {
    if (!present(pids["limit"])) return;
    int64_t limit = pids["limit"].integer();
    writes_.add(file("pids", "pids.max"), limit > 0 ? std::to_string(limit) : "max");
  }

  void collect_block_io(const Json& io) {
    if (io["weight"].integer() > 0) {
      optional("blkio", "blkio.weight", std::to_string(io["weight"].integer()));
      optional("blkio", "blkio.bfq.weight", std::to_string(io["weight"].integer()));
    }
    static constexpr struct {
      std::string_view member;
      const char* file;
    } throttles[] = {
        {"throttleReadBpsDevice", "blkio.throttle.read_bps_device"},
        {"throttleWriteBpsDevice", "blkio.throttle.write_bps_device"},
        {"throttleReadIOPSDevice", "blkio.throttle.read_iops_device"},
        {"throttleWriteIOPSDevice", "blkio.throttle.write_iops_device"},
    };
    for (const auto& throttle : throttles) {
      for (const Json& device : io[throttle.member].items()) {
        optional("blkio", throttle.file,
                 std::to_string(device["major"].integer()) + ":" + std::to_string(device["minor"].integer()) + " " +
                     std::to_string(device["rate"].integer()));
      }
    }
  }

  void collect_huge_pages(const Json& limits) {
    for (const Json& limit : limits.items()) {
      std::string size(limit["pageSize"].string());
      if (size.find('/') != size.npos) continue;
      optional("hugetlb", "hugetlb." + size + ".limit_in_bytes", std::to_string(limit["limit"].integer()));
    }
  }

  void collect_network(const Json& network) {
    if (network["classID"].integer() > 0) number("net_cls", "net_cls.classid", network["classID"]);
    for (const Json& priority : network["priorities"].items()) {
      writes_.add(file("net_prio", "net_prio.ifpriomap"),
                  std::string(priority["name"].string()) + " " + std::to_string(priority["priority"].integer()));
    }
  }

  Status collect_unified(const Json& unified) {
    if (unified.members().empty()) return {};
    return fail(Kind::invalid, "apply linux.resources.unified", "this host has its controllers on cgroup v1");
  }

  Status collect_devices(const Json& devices) {
    if (devices.items().empty()) return {};
    for (const DeviceRule& rule : TRY(parse_device_rules(devices))) {
      writes_.add(file("devices", rule.allow ? "devices.allow" : "devices.deny"), to_v1_line(rule));
    }
    return {};
  }

  const CgroupHost& host_;
  const std::string& path_;
  CgroupWrites writes_;
  std::string missing_;
};

}  // namespace

Status fill_cpuset(const std::string& directory) {
  const std::string parent = directory.substr(0, directory.rfind('/'));
  for (const char* name : {"/cpuset.cpus", "/cpuset.mems"}) {
    const std::string own = TRY(read_cgroup_file(directory + name));
    if (!own.empty()) continue;
    const std::string inherited = TRY(read_cgroup_file(parent + name));
    TRY(write_cgroup_file(directory + name, inherited));
  }
  return {};
}

Status apply(const CgroupHost& host, const std::string& path, const Json& resources) {
  Resources wanted(host, path);
  TRY(wanted.collect(resources));
  return wanted.commit();
}

void thaw(const std::string& directory, int depth) {
  static_cast<void>(write_cgroup_file(directory + "/freezer.state", "THAWED"));
  const auto children = child_cgroups(directory);
  if (!children || depth == max_cgroup_depth) return;
  for (const std::string& child : *children) thaw(child, depth + 1);
}

}  // namespace keelson::v1
