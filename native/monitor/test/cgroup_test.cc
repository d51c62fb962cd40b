// Cgroups on hierarchies that are plain directories: which paths are accepted, and what is written to which files.
#include "monitor/cgroup/cgroup.h"

#include <linux/magic.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "monitor/cgroup/cgroupfs.h"
#include "monitor/cgroup/devices.h"
#include "monitor/cgroup/oom.h"
#include "monitor/test/unit_test.h"

namespace keelson::test {

namespace {

using namespace std::chrono_literals;

// A host whose hierarchies are plain directories, with the files of one cgroup in them.
struct Host {
  Directory directory;
  CgroupHost hierarchies;

  static std::string hybrid(const std::string& root) {
    JsonWriter json;
    json.begin_object().key("v2").value(root + "/unified").key("v1").begin_object();
    for (const char* controller : {"cpu", "cpuacct"}) json.key(controller).value(root + "/cpu,cpuacct");
    for (const char* controller : {"memory", "pids", "devices"}) json.key(controller).value(root + "/" + controller);
    json.end_object().end_object();
    return json.take();
  }
  static std::string unified(const std::string& root) {
    JsonWriter json;
    json.begin_object().key("v2").value(root).key("v1").begin_object().end_object().end_object();
    return json.take();
  }

  explicit Host(std::string (*json)(const std::string& root)) {
    auto read = CgroupHost::parse(*parse_json(json(directory.path())));
    EXPECT(read.has_value());
    hierarchies = std::move(*read);
  }

  // The kernel creates these with a cgroup.
  void make_file(const std::string& name, const std::string& value = "") {
    const std::filesystem::path path = directory.path() + name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << value;
  }
  std::string text(const std::string& name) const {
    auto read = read_cgroup_file(directory.path() + name);
    EXPECT(read.has_value());
    return *read;
  }
  bool has(const std::string& name) const { return access((directory.path() + name).c_str(), F_OK) == 0; }
};

Status apply(Host& host, const char* resources) {
  auto json = parse_json(resources);
  EXPECT(json.has_value());
  return Cgroup::open(host.hierarchies, "/pod/c").apply(*json);
}

void requires_absolute_hierarchies() {
  for (const char* wrong : {"null", "{}", R"({"v2": "", "v1": {}})", R"({"v2": "cgroup", "v1": {}})",
                            R"({"v2": "/unified", "v1": {"memory": ""}})", R"({"v1": {"memory": 7}})"}) {
    EXPECT(!CgroupHost::parse(*parse_json(wrong)).has_value());
  }
  const auto host = CgroupHost::parse(*parse_json(R"({"v2": "/u", "v1": {"cpu": "/c", "cpuacct": "/c", "name=systemd": "/s"}})"));
  EXPECT(!host->unified());
  EXPECT_EQUAL(host->v1_root("name=systemd"), "/s");
  EXPECT_EQUAL(static_cast<long>(host->v1_roots().size()), 2);
}

void accepts_only_paths_below_the_roots() {
  Host host(Host::hybrid);
  for (const char* path : {"", "/", "pod/c", "/pod/../../c", "/pod/..", "/.."}) {
    auto refused = Cgroup::create(host.hierarchies, path);
    EXPECT(!refused.has_value());
    EXPECT(refused.error().kind == Kind::invalid);
  }
  EXPECT(!Cgroup::create(host.hierarchies, "/" + std::string(3001, 'x')).has_value());
  EXPECT(!Cgroup::create(host.hierarchies, std::string("/pod\0/c", 7)).has_value());
}

void creates_every_level_in_every_hierarchy() {
  Host host(Host::hybrid);
  for (const char* root : {"/cpu,cpuacct", "/memory", "/pids", "/devices", "/unified"}) {
    EXPECT(mkdir((host.directory.path() + root).c_str(), 0755) == 0);
  }
  auto cgroup = Cgroup::create(host.hierarchies, "/pod/c");
  EXPECT(cgroup.has_value());
  EXPECT(cgroup->clone_fd() >= 0);
  EXPECT_EQUAL(static_cast<long>(cgroup->v1_task_files().size()), 4);
  EXPECT(host.has("/memory/pod/c") && host.has("/unified/pod/c"));
  EXPECT(cgroup->remove().value());
  EXPECT(!host.has("/memory/pod/c") && host.has("/memory/pod"));
}

void removes_what_it_created_if_a_hierarchy_fails() {
  Host host(Host::hybrid);
  EXPECT(mkdir((host.directory.path() + "/cpu,cpuacct").c_str(), 0755) == 0);  // the others are missing
  EXPECT(!Cgroup::create(host.hierarchies, "/pod/c").has_value());
  EXPECT(!host.has("/cpu,cpuacct/pod"));
}

void writes_the_files_of_v1() {
  Host host(Host::hybrid);
  for (const char* name : {"/cpu,cpuacct/pod/c/cpu.shares", "/cpu,cpuacct/pod/c/cpu.cfs_period_us",
                           "/cpu,cpuacct/pod/c/cpu.cfs_quota_us", "/memory/pod/c/memory.limit_in_bytes",
                           "/memory/pod/c/memory.memsw.limit_in_bytes"}) {
    host.make_file(name);
  }
  EXPECT(apply(host, R"({"cpu": {"shares": 512, "quota": 50000, "period": 100000},
                         "memory": {"limit": 1048576, "swap": 2097152}})").has_value());
  EXPECT_EQUAL(host.text("/cpu,cpuacct/pod/c/cpu.shares"), "512");
  EXPECT_EQUAL(host.text("/cpu,cpuacct/pod/c/cpu.cfs_quota_us"), "50000");
  EXPECT_EQUAL(host.text("/cpu,cpuacct/pod/c/cpu.cfs_period_us"), "100000");
  EXPECT_EQUAL(host.text("/memory/pod/c/memory.limit_in_bytes"), "1048576");
  EXPECT_EQUAL(host.text("/memory/pod/c/memory.memsw.limit_in_bytes"), "2097152");
}

void writes_the_files_of_v2() {
  Host host(Host::unified);
  for (const char* name : {"cpu.weight", "cpu.max", "memory.max", "memory.swap.max", "memory.low"}) {
    host.make_file(std::string("/pod/c/") + name);
  }
  EXPECT(apply(host, R"({"cpu": {"shares": 1024, "quota": 50000, "period": 100000},
                         "memory": {"limit": 1048576, "swap": 2097152},
                         "hugepageLimits": [{"pageSize": "2MB", "limit": 0}],
                         "unified": {"memory.low": "65536"}})").has_value());
  EXPECT_EQUAL(host.text("/pod/c/cpu.weight"), "100");  // the default maps to the default
  EXPECT_EQUAL(host.text("/pod/c/cpu.max"), "50000 100000");
  EXPECT_EQUAL(host.text("/pod/c/memory.max"), "1048576");
  EXPECT_EQUAL(host.text("/pod/c/memory.swap.max"), "1048576");  // OCI's limit includes memory
  EXPECT_EQUAL(host.text("/pod/c/memory.low"), "65536");
  EXPECT(!host.has("/pod/c/hugetlb.2MB.max"));  // not every kernel has it
}

void writes_a_unified_value_line_by_line() {
  Host host(Host::unified);
  host.make_file("/pod/c/io.max");
  EXPECT(apply(host, R"({"unified": {"io.max": "8:0 rbps=1048576\n8:16 wiops=120\n"}})").has_value());
  // A plain file has the bytes of both writes one after the other.
  EXPECT_EQUAL(host.text("/pod/c/io.max"), "8:0 rbps=10485768:16 wiops=120");
}

void undoes_writes_if_one_fails() {
  Host host(Host::hybrid);
  host.make_file("/cpu,cpuacct/pod/c/cpu.shares", "1024");
  EXPECT(!apply(host, R"({"cpu": {"shares": 2048}, "memory": {"limit": 4096}})"));  // there is no memory.limit_in_bytes
  EXPECT_EQUAL(host.text("/cpu,cpuacct/pod/c/cpu.shares"), "1024");
}

// On v2, a container without a cpuset.
void undoes_a_write_to_an_empty_cpuset() {
  Host host(Host::unified);
  host.make_file("/pod/c/cpuset.cpus", "\n");
  host.make_file("/pod/c/cpuset.cpus.effective", "0-3\n");
  EXPECT(!apply(host, R"({"cpu": {"cpus": "0"}, "memory": {"limit": 4096}})"));  // there is no memory.max
  EXPECT_EQUAL(host.text("/pod/c/cpuset.cpus"), "0-3");
}

// A plain file has the last writes one after the other.
void undoes_the_limits_of_disks() {
  Host host(Host::unified);
  const std::string before = "8:0 rbps=1 wbps=max riops=max wiops=max";
  host.make_file("/pod/c/io.max", before + "\n");
  host.make_file("/pod/c/memory.high/cannot-be-written");
  EXPECT(!apply(host, R"({"unified": {"io.max": "8:16 wiops=120\n8:32 wiops=120", "memory.high": "4096"}})"));
  const std::string no_limits = " rbps=max wbps=max riops=max wiops=max";
  EXPECT_EQUAL(host.text("/pod/c/io.max"), "8:16" + no_limits + "8:32" + no_limits + before);
}

void counts_oom_kills(Host& host, const std::string& file, const std::string& before) {
  host.make_file(file, before + "oom_kill 0\n");
  const Cgroup cgroup = Cgroup::open(host.hierarchies, "/pod/c");
  auto loop = Loop::create();
  EXPECT(loop.has_value());
  int told = 0;
  OomWatch watch(**loop, cgroup, [&told] { ++told; });
  EXPECT(!watch.check() && !watch.killed());
  host.make_file(file, before + "oom_kill 2\n");
  EXPECT(watch.check() && !watch.check() && watch.killed());
  EXPECT_EQUAL(told, 1);
}

void reports_oom_kills_once() {
  Host v1(Host::hybrid);
  counts_oom_kills(v1, "/memory/pod/c/memory.oom_control", "oom_kill_disable 1\nunder_oom 0\n");
  Host v2(Host::unified);
  counts_oom_kills(v2, "/pod/c/memory.events", "low 0\nhigh 0\nmax 7\noom 7\n");
}

// A real cgroup, if v2 is mounted.
struct RealCgroup {
  std::string path;

  RealCgroup() {
    for (const char* root : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
      struct statfs info {};
      if (statfs(root, &info) != 0 || info.f_type != CGROUP2_SUPER_MAGIC) continue;
      path = root + ("/keelson-unit-test-" + std::to_string(getpid()));
      EXPECT(mkdir(path.c_str(), 0755) == 0);
      return;
    }
  }
  ~RealCgroup() { rmdir(path.c_str()); }
};

bool has_inotify_instance() {
  return std::ranges::any_of(std::filesystem::directory_iterator("/proc/self/fd"), [](const auto& entry) {
    std::error_code gone;
    return std::filesystem::read_symlink(entry, gone) == "anon_inode:inotify";
  });
}

// The kernel reports changes of memory.events in the same way as those of cgroup.events, which every cgroup has.
void detects_oom_kills_without_inotify() {
  const RealCgroup real;
  if (real.path.empty()) return;
  Host v2(Host::unified);
  const std::string events = v2.directory.path() + "/pod/c/memory.events";
  v2.make_file("/pod/c/cgroup.procs");
  EXPECT(symlink((real.path + "/cgroup.events").c_str(), events.c_str()) == 0);
  const Cgroup cgroup = Cgroup::open(v2.hierarchies, "/pod/c");
  auto loop = Loop::create();
  EXPECT(loop.has_value());
  int told = 0;
  OomWatch watch(**loop, cgroup, [&] {
    ++told;
    (*loop)->stop();
  });
  EXPECT(watch.open().has_value());
  EXPECT(!has_inotify_instance());
  EXPECT(unlink(events.c_str()) == 0);
  v2.make_file("/pod/c/memory.events", "oom_kill 1\n");
  auto quiet = (*loop)->after(50ms, [&] { (*loop)->stop(); });
  EXPECT((*loop)->run().has_value());
  EXPECT_EQUAL(told, 0);
  EXPECT(write_cgroup_file(real.path + "/cgroup.freeze", "1").has_value());
  auto limit = (*loop)->after(2s, [&] { (*loop)->stop(); });
  EXPECT((*loop)->run().has_value());
  EXPECT_EQUAL(told, 1);
}

void refuses_resources_that_it_cannot_apply() {
  Host v1(Host::hybrid);
  EXPECT(!apply(v1, R"({"memory": {"limit": 4096, "swap": 2048}})"));
  EXPECT(!apply(v1, R"({"unified": {"memory.max": "1"}})"));
  EXPECT_EQUAL(apply(v1, R"({"cpu": {"cpus": "0"}})").error().message(),
               "limit cpuset: the cgroup controller cpuset is not mounted");
  Host v2(Host::unified);
  EXPECT(!apply(v2, R"({"memory": {"swap": 2048}})"));
  EXPECT(!apply(v2, R"({"unified": {"../memory.max": "1"}})"));
  EXPECT(!apply(v2, R"({"devices": [{"allow": true, "access": "x"}]})"));
}

// As before Linux 5.14, without cgroup.kill.
void kills_process_by_process_at_any_depth() {
  Host host(Host::hybrid);
  const pid_t child = fork();
  if (child == 0) {
    for (;;) pause();
  }
  const std::string name(120, 'x');  // longer paths than PATH_MAX
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::create_directories(host.directory.path() + "/unified/pod/c");
  std::filesystem::current_path(host.directory.path() + "/unified/pod/c");
  for (int level = 0; level < 40; ++level) {
    EXPECT(mkdir(name.c_str(), 0755) == 0 && chdir(name.c_str()) == 0);
  }
  std::ofstream("cgroup.procs") << child << "\n";
  std::filesystem::current_path(before);
  EXPECT(Cgroup::open(host.hierarchies, "/pod/c").kill_all().has_value());
  int status = 0;
  for (int wait = 0; waitpid(child, &status, WNOHANG) == 0; ++wait) {
    if (wait == 200) kill(child, SIGTERM);
    usleep(10'000);
  }
  EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

size_t times(const std::string& line, const std::string& rules_json) {
  const auto json = parse_json(rules_json);
  const auto rules = parse_device_rules(*json);
  return static_cast<size_t>(std::ranges::count(*rules, line, to_v1_line));
}

void adds_a_default_rule_once() {
  const std::string all = R"({"allow": false, "access": "rwm"})";
  const std::string null = R"({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"})";
  EXPECT_EQUAL(times("c 1:3 rwm", "[" + all + "]"), 1U);
  EXPECT_EQUAL(times("c 1:3 rwm", "[" + all + "," + null + "]"), 1U);
  EXPECT_EQUAL(times("c 1:3 rwm", "[" + null + "," + all + "]"), 2U);  // denied in between
}

}  // namespace

std::vector<Test> cgroup_tests() {
  return {
      {"cgroup: requires hierarchies with absolute paths", requires_absolute_hierarchies},
      {"cgroup: accepts only paths below the roots", accepts_only_paths_below_the_roots},
      {"cgroup: creates every level in every hierarchy", creates_every_level_in_every_hierarchy},
      {"cgroup: removes what it created if one hierarchy fails", removes_what_it_created_if_a_hierarchy_fails},
      {"cgroup: writes the files of v1", writes_the_files_of_v1},
      {"cgroup: writes the files of v2", writes_the_files_of_v2},
      {"cgroup: writes a unified value line by line", writes_a_unified_value_line_by_line},
      {"cgroup: undoes writes if one fails", undoes_writes_if_one_fails},
      {"cgroup: undoes a write to an empty cpuset", undoes_a_write_to_an_empty_cpuset},
      {"cgroup: undoes the limits of disks", undoes_the_limits_of_disks},
      {"cgroup: reports OOM kills once", reports_oom_kills_once},
      {"cgroup: detects OOM kills without inotify", detects_oom_kills_without_inotify},
      {"cgroup: refuses resources that it cannot apply", refuses_resources_that_it_cannot_apply},
      {"cgroup: adds a default device rule only once", adds_a_default_rule_once},
      {"cgroup: kills process by process at any depth", kills_process_by_process_at_any_depth},
  };
}

}  // namespace keelson::test
