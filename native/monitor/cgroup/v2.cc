// Sources: cgroup-v2.rst, runtime-spec config-linux.md.
#include "monitor/cgroup/v2.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/fd.h"
#include "monitor/cgroup/devices.h"
#include "monitor/cgroup/cgroupfs.h"

namespace keelson::v2 {

namespace {

std::string or_max(int64_t number) { return number < 0 ? "max" : std::to_string(number); }

// v1's shares (2 … 262144, default 1024) as a weight (1 … 10000, default 100), with the formula used since crun 1.23
// and runc 1.3.2, which maps default to default.
int64_t weight_of_shares(int64_t shares) {
  const double log = std::log2(static_cast<double>(std::clamp<int64_t>(shares, 2, 262144)));
  const double exponent = (log * log + 125 * log) / 612.0 - 7.0 / 34.0;
  return std::clamp<int64_t>(static_cast<int64_t>(std::ceil(std::pow(10, exponent))), 1, 10000);
}

// Handles the OCI resources that the daemon writes (pod/spec/resources.ts).
class Resources {
 public:
  explicit Resources(std::string directory) : directory_(std::move(directory)) {}

  Status collect(const Json& resources) {
    TRY(collect_cpu(resources["cpu"]));
    TRY(collect_memory(resources["memory"]));
    for (const Json& limit : resources["hugepageLimits"].items()) {
      // Reservations are limited too, so that mmap fails instead of a later access.
      for (const char* file : {".max", ".rsvd.max"}) {
        optional("hugetlb." + std::string(limit["pageSize"].string()) + file, or_max(limit["limit"].integer()));
      }
    }
    // Last, because they override the others.
    return collect_unified(resources["unified"]);
  }

  Status commit() const { return writes_.commit(); }

 private:
  void add(const std::string& name, std::string value) { writes_.add(directory_ + "/" + name, std::move(value)); }
  void optional(const std::string& name, std::string value) {
    if (name.find('/') == name.npos) writes_.add_if_present(directory_ + "/" + name, std::move(value));
  }

  Status collect_cpu(const Json& cpu) {
    if (int64_t shares = cpu["shares"].integer(); shares > 0) {
      add("cpu.weight", std::to_string(weight_of_shares(shares)));
    }
    const int64_t quota = cpu["quota"].integer(), period = cpu["period"].integer();
    if (quota != 0 || period > 0) {
      // A period can only be written after a quota, so an update of the period alone repeats the current quota.
      std::string value = quota > 0 ? std::to_string(quota) : "max";
      if (quota == 0) {
        const std::string before = TRY(read_cgroup_file(directory_ + "/cpu.max"));
        value = before.substr(0, before.find(' '));
      }
      if (period > 0) value += " " + std::to_string(period);
      add("cpu.max", value);
    }
    if (!cpu["cpus"].string().empty()) add("cpuset.cpus", std::string(cpu["cpus"].string()));
    if (!cpu["mems"].string().empty()) add("cpuset.mems", std::string(cpu["mems"].string()));
    return {};
  }

  Status collect_memory(const Json& memory) {
    const int64_t limit = memory["limit"].integer(), swap = memory["swap"].integer();
    if (swap > 0) {
      // OCI limits memory plus swap, v2 limits swap alone. An update without a memory limit applies to the current one.
      const int64_t memory_limit = limit != 0 ? limit : read_cgroup_number(directory_ + "/memory.max");
      if (memory_limit <= 0 || swap < memory_limit) {
        return fail(Kind::invalid, "limit memory", "a limit of memory plus swap needs a memory limit not above it");
      }
      optional("memory.swap.max", std::to_string(swap - memory_limit));
    } else if (swap < 0 || limit < 0) {
      optional("memory.swap.max", "max");
    }
    if (limit != 0) add("memory.max", or_max(limit));
    return {};
  }

  Status collect_unified(const Json& unified) {
    const char* const step = "apply linux.resources.unified";
    for (const auto& [name, value] : unified.members()) {
      if (name.empty() || name.find('/') != name.npos || name.find('.') == name.npos) {
        return fail(Kind::invalid, step, "\"" + name + "\" is not the name of a cgroup file");
      }
      // The other core files move, kill or freeze processes, or delegate controllers.
      if (name.starts_with("cgroup.") && !name.starts_with("cgroup.max.")) {
        return fail(Kind::invalid, step, "\"" + name + "\" is not a limit");
      }
      if (::access((directory_ + "/" + name).c_str(), F_OK) != 0) {
        return fail(Kind::invalid, step, "the kernel has no " + name + ", or its controller is not delegated to here");
      }
      add(name, std::string(value.string()));
    }
    return {};
  }

  std::string directory_;
  CgroupWrites writes_;
};

}  // namespace

Status delegate_controllers(const std::string& directory) {
  static constexpr std::string_view wanted[] = {"cpuset", "cpu", "io", "memory", "hugetlb", "pids"};
  const std::string available = TRY(read_cgroup_file(directory + "/cgroup.controllers"));
  const std::string delegated = TRY(read_cgroup_file(directory + "/cgroup.subtree_control"));
  auto has = [](const std::string& list, std::string_view name) {
    return (" " + list + " ").find(" " + std::string(name) + " ") != std::string::npos;
  };
  const std::string file = directory + "/cgroup.subtree_control";
  std::vector<std::string> additions;
  for (std::string_view name : wanted) {
    if (has(available, name) && !has(delegated, name)) additions.push_back("+" + std::string(name));
  }
  // One by one: the kernel accepts all of a write or nothing, so a controller that cannot be delegated (cpu, if there
  // are realtime processes) would block the others. A request that needs its files then fails with the file's name.
  for (const std::string& addition : additions) {
    if (const Status written = write_cgroup_file(file, addition); !written && written.error().error_number == EBUSY) {
      return fail(Kind::system, "delegate controllers to the children of " + directory,
                  "it has processes of its own, which cgroup v2 does not allow next to children with controllers");
    }
  }
  return {};
}

Status apply(const std::string& directory, const Json& resources) {
  Resources wanted(directory);
  TRY(wanted.collect(resources));
  const std::vector<DeviceRule> rules = TRY(parse_device_rules(resources["devices"]));
  TRY(wanted.commit());
  if (resources["devices"].items().empty()) return {};
  Fd cgroup(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!cgroup) return fail_errno("open the cgroup " + directory);
  return attach_device_filter(cgroup.get(), rules);
}

}  // namespace keelson::v2
