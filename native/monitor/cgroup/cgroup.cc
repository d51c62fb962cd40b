// One cgroup in every hierarchy of the host: made, joined, watched, killed, removed.
#include "monitor/cgroup/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include <charconv>
#include <memory>

#include "monitor/cgroup/files.h"
#include "monitor/cgroup/versions.h"
#include "monitor/setup/child.h"

namespace keelson {

namespace {

constexpr int max_depth = 32;  // of cgroups that a container made inside its own

Status check_path(const std::string& path) {
  const bool stray = path.find("/../") != path.npos || path.ends_with("/..") || path.find('\0') != path.npos;
  if (path.size() < 2 || path[0] != '/' || stray || path.size() > 3000) {
    return fail(Kind::invalid, "make the cgroup " + path, "this is no absolute path below the hierarchies' roots");
  }
  return {};
}

// Every directory from the root's child down to root + path.
std::vector<std::string> levels(const std::string& root, const std::string& path) {
  std::vector<std::string> all;
  for (size_t slash = path.find('/', 1); slash != path.npos; slash = path.find('/', slash + 1)) {
    all.push_back(root + path.substr(0, slash));
  }
  all.push_back(root + path);
  return all;
}

// A hybrid host's v2 tree is for membership alone: its controllers are not ours to hand out.
enum class Version { v1, v1_cpuset, v2, v2_hybrid };

// Makes the missing levels in one hierarchy and notes them in `made`.
Status make_levels(const std::string& root, const std::string& path, Version version,
                   std::vector<std::string>& made) {
  std::string parent = root;
  for (const std::string& directory : levels(root, path)) {
    // Not before the directory is needed: handing controllers down costs a walk of all below.
    const bool exists = access(directory.c_str(), F_OK) == 0;
    if (!exists) {
      if (version == Version::v2) {
        if (Status delegated = delegate_v2_controllers(parent); !delegated) return delegated;
      }
      if (mkdir(directory.c_str(), 0755) != 0) {
        if (errno != EEXIST) return fail_errno("make the cgroup " + directory);
      } else {
        made.push_back(directory);
      }
    }
    // One that is there may have been made by another pod this very moment, and be empty still.
    if (version == Version::v1_cpuset) {
      if (Status filled = fill_v1_cpuset(directory); !filled) return filled;
    }
    parent = directory;
  }
  return {};
}

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};

// Children first. False: something is still inside, come again.
Result<bool> remove_tree(const std::string& directory, int depth) {
  if (rmdir(directory.c_str()) == 0 || errno == ENOENT) return true;
  if (errno != EBUSY || depth > max_depth) return fail_errno("remove the cgroup " + directory);
  std::unique_ptr<DIR, CloseDirectory> listing(opendir(directory.c_str()));
  if (!listing) {
    if (errno == ENOENT) return true;
    return fail_errno("list the cgroup " + directory);
  }
  while (const dirent* entry = readdir(listing.get())) {
    std::string_view name = entry->d_name;
    if (entry->d_type != DT_DIR || name == "." || name == "..") continue;
    Result<bool> removed = remove_tree(directory + "/" + entry->d_name, depth + 1);
    if (!removed || !*removed) return removed;
  }
  if (rmdir(directory.c_str()) == 0 || errno == ENOENT) return true;
  if (errno == EBUSY) return false;
  return fail_errno("remove the cgroup " + directory);
}

// The number behind `key` in a file of "key number" lines.
uint64_t counter(const std::string& file, std::string_view key) {
  Result<std::string> text = read_cgroup_file(file);
  if (!text) return 0;
  // With its blank: "oom_kill_disable" stands above "oom_kill" in v1's memory.oom_control.
  size_t at = text->starts_with(std::string(key) + " ") ? 0 : text->find("\n" + std::string(key) + " ");
  if (at == text->npos) return 0;
  at += key.size() + (at == 0 ? 1 : 2);
  uint64_t number = 0;
  if (at < text->size()) std::from_chars(text->data() + at, text->data() + text->size(), number);
  return number;
}

// SIGKILL to every process of one directory and of those below it.
Status kill_members(const std::string& directory, int depth) {
  Result<std::string> members = read_cgroup_file(directory + "/cgroup.procs");
  if (!members) return members.error().error_number == ENOENT ? Status{} : std::unexpected(members.error());
  const char* at = members->data();
  const char* end = at + members->size();
  while (at < end) {
    pid_t pid = 0;
    at = std::from_chars(at, end, pid).ptr + 1;
    if (pid > 0 && kill(pid, SIGKILL) != 0 && errno != ESRCH) return fail_errno("kill the process in " + directory);
  }
  std::unique_ptr<DIR, CloseDirectory> listing(opendir(directory.c_str()));
  while (const dirent* entry = listing && depth < max_depth ? readdir(listing.get()) : nullptr) {
    if (entry->d_type != DT_DIR || entry->d_name[0] == '.') continue;
    if (Status killed = kill_members(directory + "/" + entry->d_name, depth + 1); !killed) return killed;
  }
  return {};
}

// A process in a frozen v1 cgroup does not even die; each cgroup below may have been frozen on its own.
void thaw_members(const std::string& directory, int depth) {
  static_cast<void>(write_cgroup_file(directory + "/freezer.state", "THAWED"));
  std::unique_ptr<DIR, CloseDirectory> listing(opendir(directory.c_str()));
  while (const dirent* entry = listing && depth < max_depth ? readdir(listing.get()) : nullptr) {
    if (entry->d_type == DT_DIR && entry->d_name[0] != '.') thaw_members(directory + "/" + entry->d_name, depth + 1);
  }
}

}  // namespace

Cgroup::Cgroup(const CgroupHost& host, std::string path) : path_(std::move(path)), host_(&host) {
  if (host.v2_root().empty()) return;
  clone_fd_ = Fd(::open((host.v2_root() + path_).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
}

Result<Cgroup> Cgroup::create(const CgroupHost& host, std::string path) {
  if (Status checked = check_path(path); !checked) return std::unexpected(checked.error());
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

std::vector<std::string> Cgroup::v1_task_files() const {
  std::vector<std::string> files;
  for (const std::string& root : host_->v1_roots()) files.push_back(root + path_ + "/tasks");
  return files;
}

Status Cgroup::apply(const Json& resources) {
  return host_->unified() ? apply_v2(*host_, path_, resources) : apply_v1(*host_, path_, resources);
}

Result<Fd> Cgroup::oom_watch() const {
  if (host_->unified()) {
    const std::string events = host_->v2_root() + path_ + "/memory.events";
    Fd watch(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    if (!watch) return fail_errno("watch " + events);
    if (inotify_add_watch(watch.get(), events.c_str(), IN_MODIFY) < 0) return fail_errno("watch " + events);
    return watch;
  }
  // cgroup-v1/memory.rst, "OOM Control": an eventfd is tied to memory.oom_control.
  const std::string directory = host_->v1_root("memory") + path_;
  Fd event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return fail_errno("make an eventfd");
  Fd control(::open((directory + "/memory.oom_control").c_str(), O_RDONLY | O_CLOEXEC));
  if (!control) return fail_errno("open " + directory + "/memory.oom_control");
  Status tied = write_cgroup_file(directory + "/cgroup.event_control",
                                  std::to_string(event.get()) + " " + std::to_string(control.get()));
  if (!tied) return std::unexpected(tied.error());
  return event;
}

uint64_t Cgroup::oom_kills() const {
  return host_->unified() ? counter(host_->v2_root() + path_ + "/memory.events", "oom_kill")
                          : counter(host_->v1_root("memory") + path_ + "/memory.oom_control", "oom_kill");
}

void Cgroup::thaw() const {
  if (const std::string root = host_->v1_root("freezer"); !root.empty()) thaw_members(root + path_, 0);
}

Status Cgroup::kill_all() const {
  thaw();
  if (!host_->v2_root().empty()) {
    const std::string directory = host_->v2_root() + path_;
    Status killed = write_cgroup_file(directory + "/cgroup.kill", "1");
    if (killed || access(directory.c_str(), F_OK) != 0) return {};
    // Linux before 5.14 has no cgroup.kill.
    if (killed.error().error_number == ENOENT) return kill_members(directory, 0);
    return killed;
  }
  return kill_members(host_->v1_roots().front() + path_, 0);
}

Result<bool> Cgroup::remove() {
  bool all = true;
  auto take = [&](const std::string& root) -> Status {
    Result<bool> removed = remove_tree(root + path_, 0);
    if (!removed) return std::unexpected(removed.error());
    all = all && *removed;
    return {};
  };
  Status first;
  for (const std::string& root : host_->v1_roots()) {
    if (Status taken = take(root); !taken && first) first = taken;
  }
  if (!host_->v2_root().empty()) {
    if (Status taken = take(host_->v2_root()); !taken && first) first = taken;
  }
  if (!first) return std::unexpected(first.error());
  return all;
}

void join_v1_cgroups(const Child& child, const std::vector<std::string>& task_files) {
  for (const std::string& path : task_files) {
    int file = open(path.c_str(), O_WRONLY | O_CLOEXEC);
    // "0" is the writer itself. For one's own single thread the kernel takes no lock over
    // all forks of the host, which is where the grace period would come from.
    if (file < 0 || write(file, "0", 1) != 1) child.die(Step::join_cgroup, path.c_str());
    close(file);
  }
}

}  // namespace keelson
