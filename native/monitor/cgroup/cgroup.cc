#include "monitor/cgroup/cgroup.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <memory>
#include <ranges>
#include <string_view>

#include "common/file.h"
#include "monitor/cgroup/cgroupfs.h"
#include "monitor/cgroup/v1.h"
#include "monitor/cgroup/v2.h"
#include "monitor/server/loop.h"
#include "monitor/setup/child.h"

namespace keelson {

namespace {

using namespace std::chrono_literals;

constexpr auto removal_limit = 5s;

Status check_path(const std::string& path) {
  const bool stray = path.find("/../") != path.npos || path.ends_with("/..") || path.find('\0') != path.npos;
  if (path.size() < 2 || path[0] != '/' || stray || path.size() > 3000) {
    return fail(Kind::invalid, "create the cgroup " + path, "it must be an absolute path below the hierarchies' roots");
  }
  return {};
}

// Every directory from the first one below `root` down to root + path.
std::vector<std::string> levels(const std::string& root, const std::string& path) {
  std::vector<std::string> all;
  for (size_t slash = path.find('/', 1); slash != path.npos; slash = path.find('/', slash + 1)) {
    all.push_back(root + path.substr(0, slash));
  }
  all.push_back(root + path);
  return all;
}

// On a hybrid host the v2 tree is for membership only: it has no controllers to delegate.
enum class Version { v1, v1_cpuset, v2, v2_hybrid };

// Creates the missing levels in one hierarchy and appends them to `made`.
Status make_levels(const std::string& root, const std::string& path, Version version,
                   std::vector<std::string>& made) {
  // Usually only the last level is missing.
  if (version != Version::v2 && mkdir((root + path).c_str(), 0755) == 0) {
    made.push_back(root + path);
    if (version != Version::v1_cpuset || TRY(v1::inherit_cpuset(root + path))) return {};
  }
  std::string parent = root;
  for (const std::string& directory : levels(root, path)) {
    // Even if the directory exists: systemd delegates only the controllers that its own units need, never hugetlb.
    if (version == Version::v2) TRY(v2::delegate_controllers(parent));
    const bool exists = access(directory.c_str(), F_OK) == 0;
    if (!exists) {
      if (mkdir(directory.c_str(), 0755) != 0) {
        if (errno != EEXIST) return fail_errno("create the cgroup " + directory);
      } else {
        made.push_back(directory);
      }
    }
    // An existing directory may have been created by another pod a moment ago and still be empty.
    if (version == Version::v1_cpuset) TRY(v1::fill_cpuset(directory));
    parent = directory;
  }
  return {};
}

// Sends SIGKILL to every process of a cgroup and its descendants.
Status kill_members(const std::string& directory) {
  return each_cgroup(directory, [](int parent, const std::string& name) -> Status {
    const std::string path = name + "/cgroup.procs";
    const Fd file(::openat(parent, path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file && errno == ENOENT) return {};
    if (!file) return fail_errno("open " + path);
    const std::string members = TRY(read_to_end(file.get(), max_cgroup_file, path));
    const char* at = members.data();
    const char* end = at + members.size();
    while (at < end) {
      pid_t pid = 0;
      at = std::from_chars(at, end, pid).ptr + 1;
      if (pid > 0 && kill(pid, SIGKILL) != 0 && errno != ESRCH) return fail_errno("kill a process in " + name);
    }
    return {};
  });
}

// Removes a cgroup without blocking; retries, because a dying process is counted in its cgroup a moment longer.
// Owned by its own timer until `done` is called.
struct Removal : std::enable_shared_from_this<Removal> {
  Removal(Loop& in_loop, Cgroup of_cgroup, std::move_only_function<void(Status)> when_done)
      : loop(in_loop), cgroup(std::move(of_cgroup)), done(std::move(when_done)) {}

  void attempt() {
    Status killed = cgroup.kill_all();
    auto removed = cgroup.remove();
    if (!removed) return done(std::unexpected(removed.error()));
    if (*removed) return done({});
    if (Loop::Clock::now() - begun >= removal_limit) {
      return done(killed ? fail_errno("remove the cgroup " + cgroup.path(), EBUSY) : killed);
    }
    timer = loop.after(wait, [self = shared_from_this()] { self->attempt(); });
    wait = std::min(wait * 2, 100ms);
  }

  Loop& loop;
  Cgroup cgroup;
  std::move_only_function<void(Status)> done;
  Loop::Timer timer;
  Loop::Clock::time_point begun = Loop::Clock::now();
  std::chrono::milliseconds wait = 1ms;
};

}  // namespace

Cgroup::Cgroup(const CgroupHost& host, std::string path) : path_(std::move(path)), host_(&host) {
  if (host.v2_root().empty()) return;
  clone_fd_ = Fd(::open((host.v2_root() + path_).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
}

Result<Cgroup> Cgroup::create(const CgroupHost& host, std::string path) {
  TRY(check_path(path));
  std::vector<std::string> made;
  Status status;
  const std::string cpuset = host.v1_root("cpuset");
  for (const std::string& root : host.v1_roots()) {
    const Version version = root == cpuset ? Version::v1_cpuset : Version::v1;
    if (status) status = make_levels(root, path, version, made);
  }
  if (status && !host.v2_root().empty()) {
    status = make_levels(host.v2_root(), path, host.unified() ? Version::v2 : Version::v2_hybrid, made);
  }
  if (!status) {
    for (auto directory = made.rbegin(); directory != made.rend(); ++directory) rmdir(directory->c_str());
    return std::unexpected(status.error());
  }
  return Cgroup(host, std::move(path));
}

Cgroup Cgroup::open(const CgroupHost& host, std::string path) { return Cgroup(host, std::move(path)); }

Fd Cgroup::clone_fd_of(pid_t member) const {
  const Result<std::string> rows = read_cgroup_file("/proc/" + std::to_string(member) + "/cgroup");
  if (!rows || host_->v2_root().empty()) return Fd();
  for (const auto row : std::views::split(*rows, '\n')) {
    std::string_view path(row);
    if (!path.starts_with("0::")) continue;
    path.remove_prefix(3);
    if (path != path_ && !path.starts_with(path_ + "/")) return Fd();
    const std::string directory = host_->v2_root() + std::string(path);
    return Fd(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  }
  return Fd();
}

std::vector<std::string> Cgroup::v1_task_files() const {
  std::vector<std::string> files;
  for (const std::string& root : host_->v1_roots()) files.push_back(root + path_ + "/tasks");
  return files;
}

Status Cgroup::apply(const Json& resources) {
  return host_->unified() ? v2::apply(host_->v2_root() + path_, resources) : v1::apply(*host_, path_, resources);
}

void Cgroup::thaw() const {
  if (const std::string root = host_->v1_root("freezer"); !root.empty()) v1::thaw(root + path_);
}

Status Cgroup::kill_all() const {
  thaw();
  if (!host_->v2_root().empty()) {
    const std::string directory = host_->v2_root() + path_;
    Status killed = write_cgroup_file(directory + "/cgroup.kill", "1");
    if (killed || access(directory.c_str(), F_OK) != 0) return {};
    // Linux before 5.14 has no cgroup.kill.
    if (killed.error().error_number == ENOENT) return kill_members(directory);
    return killed;
  }
  return kill_members(host_->v1_roots().front() + path_);
}

Result<bool> Cgroup::remove() {
  std::vector<std::string> roots = host_->v1_roots();
  if (!host_->v2_root().empty()) roots.push_back(host_->v2_root());
  bool all = true;
  Status first_failure;
  for (const std::string& root : roots) {
    Result<bool> removed = remove_cgroups(root + path_);
    if (removed) all = all && *removed;
    else if (first_failure) first_failure = std::unexpected(std::move(removed.error()));
  }
  TRY(first_failure);
  return all;
}

void remove_cgroup(Loop& loop, const CgroupHost& host, std::string path, std::move_only_function<void(Status)> done) {
  std::make_shared<Removal>(loop, Cgroup::open(host, std::move(path)), std::move(done))->attempt();
}

void join_v1_cgroups(const Child& child, const std::vector<std::string>& task_files) {
  for (const std::string& path : task_files) {
    const Fd file = child.check(Fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC)), Step::join_cgroup, path.c_str());
    // "0" is the writer itself. For the caller's own single thread the kernel does not take the lock that excludes all
    // forks of the host, which is what would cost the RCU grace period.
    child.check(write(file.get(), "0", 1), Step::join_cgroup, path.c_str());
  }
}

}  // namespace keelson
