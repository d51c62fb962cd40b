// Sources: runtime-spec config.md (Mounts), mount_namespaces(7).
//
// The mount of type "cgroup". On v2 it is cgroup2: rooted at the container's cgroup in its own cgroup namespace, or the
// host's complete tree in the host's namespace, matching /proc/self/cgroup. On v1 it is a tmpfs with one read-only bind
// mount per hierarchy, of the container's own directory, which makes release_agent unreachable (CVE-2022-0492). A
// hybrid host's v2 tree is left out: programs that find one assume a v2 host, and no other runtime shows it.
#include "monitor/setup/mounts.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "monitor/setup/filesystem.h"
#include "monitor/setup/namespaces.h"

namespace keelson {

namespace {

// Files of procfs that programs like lxcfs cover to show a container its own statistics, and two that are covered for
// CRIU and by programs that run without FIPS, as runc and crun allow. A mount over
// any other file of procfs could intercept what is written to the kernel there, such as security labels (CVE-2019-16884
// and similar).
bool may_cover_in_proc(std::string_view destination) {
  static constexpr std::string_view files[] = {
      "/proc/cpuinfo", "/proc/diskstats", "/proc/loadavg", "/proc/meminfo",
      "/proc/slabinfo", "/proc/stat", "/proc/swaps", "/proc/uptime",
      "/proc/sys/crypto/fips_enabled", "/proc/sys/kernel/ns_last_pid",
  };
  return std::ranges::find(files, destination) != std::end(files);
}

bool is_directory(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 && S_ISDIR(status.st_mode);
}

// Attaches a detached mount to a target inside the root, unless the target is on procfs.
void attach_inside(const Child& child, int mount, int target, const char* destination) {
  if (is_on(target, PROC_SUPER_MAGIC) && !may_cover_in_proc(destination)) {
    // Only another procfs may be mounted over a procfs.
    if (!is_proc_root(mount) || !is_proc_root(target)) child.die(Step::refuse_mount_over_proc, destination, EPERM);
  }
  child.check(attach_mount(mount, target), Step::mount, destination);
}

// Sets the options of a mount that mount_setattr(2) handles, if there are any.
void set_options(const Child& child, int mount, const MountSpec& spec, const MountChange& change, bool recursive) {
  if ((change.set | change.clear | change.propagation) == 0) return;
  child.check(change_mount(mount, change, recursive), Step::set_mount_options, spec.destination.c_str());
}

void set_propagation(const Child& child, int mount, const MountSpec& spec) {
  set_options(child, mount, spec, {0, 0, spec.propagation & ~uint64_t{MS_REC}}, spec.propagation & MS_REC);
}

// Sets the options of a bind mount: on its top only, as mount(8) does, then those for the whole tree.
void shape_bind(const Child& child, int tree, const MountSpec& spec) {
  if (spec.propagation == 0) set_options(child, tree, spec, {0, 0, MS_PRIVATE}, true);
  set_propagation(child, tree, spec);
  set_options(child, tree, spec, {mount_attributes(spec.flags), mount_attributes(spec.cleared_flags), 0}, false);
  if (spec.recursive_readonly) set_options(child, tree, spec, {MOUNT_ATTR_RDONLY, 0, 0}, true);
}

// A link in the image may point to its root. A mount over that would be invisible, because the container's root is the
// directory below it.
Fd take_target(const Child& child, int root, Fd made, const char* path) {
  Fd target = child.check(std::move(made), Step::make_mount_target, path);
  if (is_same_file(target.get(), root)) child.die(Step::refuse_mount_over_root, path, EBUSY);
  return target;
}

Fd make_target(const Child& child, int root, const MountSpec& spec) {
  const char* path = spec.destination.c_str();
  Fd target = take_target(child, root, make_directory_in_root(root, path), path);
  // The kernel would return EINVAL.
  if (!is_directory(target.get())) child.die(Step::make_mount_target, path, ENOTDIR);
  return target;
}

void make_bind(const Child& child, int root, const PlannedMount& mount) {
  const char* path = mount.spec.destination.c_str();
  const int tree = mount.tree.get();
  const Fd target = take_target(
      child, root, is_directory(tree) ? make_directory_in_root(root, path) : make_file_in_root(root, path), path);
  // The kernel would return EINVAL in both cases.
  if (is_directory(tree) != is_directory(target.get())) child.die(Step::mount, path, is_directory(tree) ? ENOTDIR : EISDIR);
  attach_inside(child, tree, target.get(), path);
}

// proc and sysfs must be mounted exactly where the spec says: if /proc in the image were followed as a link, procfs
// would be mounted elsewhere and the image's own files would stay in its place (CVE-2023-27561).
Fd make_strict_target(const Child& child, int root, const MountSpec& spec) {
  const char* path = spec.destination.c_str();
  make_target(child, root, spec);
  return child.check(open_in_root(root, path, O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS), Step::make_mount_target, path);
}

// Not proc and sysfs, which are labelled by the policy, nor the mqueue of an IPC namespace, whose superblock exists
// before it is mounted.
bool takes_label(const MountSpec& spec) { return spec.type != "proc" && spec.type != "sysfs" && spec.type != "mqueue"; }

Fd new_filesystem(const Child& child, const PlannedMount& mount) {
  const MountSpec& spec = mount.spec;
  const char* path = spec.destination.c_str();
  const Fd fs = child.check(fs_open(spec.type.c_str()), Step::mount, path);
  if (!spec.source.empty()) child.check(fs_set(fs.get(), "source", spec.source.c_str()), Step::mount, path);
  for (const auto& [key, value] : mount.options) {
    child.check(fs_set(fs.get(), key.c_str(), value.empty() ? nullptr : value.c_str()), Step::set_mount_options, path);
  }
  if (takes_label(spec)) child.check(fs_label(fs.get(), mount.label), Step::set_mount_options, path);
  return child.check(fs_mount(fs.get(), mount_attributes(spec.flags)), Step::mount, path);
}

void make_filesystem(const Child& child, int root, PlannedMount& mount) {
  const MountSpec& spec = mount.spec;
  const char* path = spec.destination.c_str();
  const bool strict = spec.type == "proc" || spec.type == "sysfs";
  const Fd target = strict ? make_strict_target(child, root, spec) : make_target(child, root, spec);
  const Fd made = mount.tree ? std::move(mount.tree) : new_filesystem(child, mount);
  if (spec.type == "mqueue") child.check(label_root(made.get(), mount.label), Step::set_mount_options, path);
  set_propagation(child, made.get(), spec);
  // A second procfs over the first one is the only mount allowed on procfs.
  if (spec.type == "proc") child.check(attach_mount(made.get(), target.get()), Step::mount, path);
  else attach_inside(child, made.get(), target.get(), path);
}

// The daemon resolved every link of a source when it accepted the request. A link found now was placed there since, by
// someone who can write to a volume, and is refused. The source is opened only once, so that the checked path is the
// one that is mounted.
Fd open_source(const Child& child, const char* path) {
  // As a directory first, because that makes the kernel mount an automount point.
  Fd source = open_resolved(AT_FDCWD, path, O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS);
  if (!source && errno == ENOTDIR) source = open_resolved(AT_FDCWD, path, O_PATH, RESOLVE_NO_SYMLINKS);
  if (!source) child.die(errno == ELOOP ? Step::open_linked_source : Step::open_mount_source, path);
  return source;
}

// Checks the result of all mounts at /proc, in whatever order: labels, masks and programs rely on a real procfs there.
void check_proc(const Child& child, int root, const std::vector<PlannedMount>& mounts) {
  if (std::ranges::none_of(mounts, [](const PlannedMount& mount) { return mount.spec.destination == "/proc"; })) return;
  constexpr uint64_t flags = O_PATH | O_DIRECTORY;
  const Fd proc = child.check(open_in_root(root, "/proc", flags, RESOLVE_NO_SYMLINKS), Step::check_proc, "/proc");
  if (!is_proc_root(proc.get())) child.die(Step::check_proc, "/proc", EPERM);
}

PlannedMount plan_mount(const MountSpec& spec, const std::string& label) {
  PlannedMount plan{.spec = spec, .label = label};
  plan.kind = (spec.flags & MS_BIND)                            ? PlannedMount::Kind::bind
              : spec.type == "cgroup" || spec.type == "cgroup2" ? PlannedMount::Kind::cgroup
                                                                : PlannedMount::Kind::filesystem;
  for (const std::string& option : spec.data) {
    size_t equals = option.find('=');
    if (equals == option.npos) plan.options.emplace_back(option, "");
    else plan.options.emplace_back(option.substr(0, equals), option.substr(equals + 1));
  }
  return plan;
}

// Usually the pod's own user namespace; a different map needs a new one, which exists as long as the mount.
Result<Fd> owners_of(const MountSpec& mount, const Sandbox& sandbox) {
  if (!(mount.flags & MS_BIND)) {
    return fail(Kind::invalid, "mount " + mount.destination, "only bind mounts can map the owners of files");
  }
  if (sandbox.user_ns && mount.uid_mappings == sandbox.spec.uid_mappings &&
      mount.gid_mappings == sandbox.spec.gid_mappings) {
    Fd copy(fcntl(sandbox.user_ns.get(), F_DUPFD_CLOEXEC, 3));
    if (!copy) return fail_errno("mount " + mount.destination);
    return copy;
  }
  const NamespaceHolder holder =
      TRY(about(NamespaceHolder::create(0, mount.uid_mappings, mount.gid_mappings), "mount " + mount.destination));
  Fd space(open(holder.path("user").c_str(), O_RDONLY | O_CLOEXEC));
  if (!space) return fail_errno("mount " + mount.destination);
  return space;
}

std::string last_component(const std::string& path) { return path.substr(path.rfind('/') + 1); }

void shape_entry(const Child& child, int tree, const MountSpec& spec) {
  const MountChange change{mount_attributes(spec.flags), mount_attributes(spec.cleared_flags), MS_PRIVATE};
  set_options(child, tree, spec, change, false);
}

void make_v2(const Child& child, int target, const PlannedMount& mount) {
  const char* path = mount.spec.destination.c_str();
  if (mount.entries.empty()) {
    const Fd tree = child.check(new_mount("cgroup2", {}, mount_attributes(mount.spec.flags)), Step::mount, path);
    return attach_inside(child, tree.get(), target, path);
  }
  const int tree = mount.entries[0].tree.get();
  shape_entry(child, tree, mount.spec);
  attach_inside(child, tree, target, path);
}

void make_v1(const Child& child, int target, const PlannedMount& mount) {
  const char* path = mount.spec.destination.c_str();
  const uint64_t attributes = mount_attributes(mount.spec.flags & ~uint64_t{MS_RDONLY});
  const Fd tmpfs = child.check(new_mount("tmpfs", {{"mode", "755"}, {"size", "64k"}}, attributes, mount.label),
                               Step::mount, path);
  attach_inside(child, tmpfs.get(), target, path);
  for (const CgroupEntry& entry : mount.entries) {
    const char* name = entry.name.c_str();
    // Nobody else has access to this new file system yet, so the name cannot be replaced.
    child.check(mkdirat(tmpfs.get(), name, 0755), Step::make_mount_target, path);
    shape_entry(child, entry.tree.get(), mount.spec);
    child.check(move_mount(entry.tree.get(), "", tmpfs.get(), name, MOVE_MOUNT_F_EMPTY_PATH), Step::mount,
                entry.directory.c_str());
    for (const std::string& alias : entry.aliases) {
      child.check(symlinkat(name, tmpfs.get(), alias.c_str()), Step::mount, path);
    }
  }
  if (mount.spec.flags & MS_RDONLY) set_options(child, tmpfs.get(), mount.spec, {MOUNT_ATTR_RDONLY, 0, 0}, false);
}

void plan_cgroup_mount(PlannedMount& plan, const CgroupHost& host, std::string_view cgroup_path, bool own_namespace) {
  plan.cgroup_v2 = host.unified();
  if (host.unified()) {
    if (!own_namespace) plan.entries.push_back({"", host.v2_root(), {}, {}});
    return;
  }
  const std::string path(cgroup_path);
  for (const auto& [controller, mount_point] : host.v1()) {
    std::string name = last_component(mount_point);
    if (plan.entries.empty() || plan.entries.back().name != name) {
      plan.entries.push_back({name, mount_point + path, {}, {}});
    }
    if (controller != name && !controller.starts_with("name=")) plan.entries.back().aliases.push_back(controller);
  }
}

void make_cgroup_mount(const Child& child, int root, const PlannedMount& mount) {
  const Fd target = make_target(child, root, mount.spec);
  if (mount.cgroup_v2) make_v2(child, target.get(), mount);
  else make_v1(child, target.get(), mount);
}

}  // namespace

Result<std::vector<PlannedMount>> plan_mounts(const ContainerSpec& spec, std::vector<ImagePlan>& images,
                                              const Sandbox& sandbox, const CgroupHost& host,
                                              std::string_view cgroup_path) {
  const bool own_cgroup_namespace =
      std::ranges::any_of(spec.namespaces, [](const NamespaceSpec& space) { return space.flag == CLONE_NEWCGROUP; });
  std::vector<PlannedMount> plans;
  for (const MountSpec& mount : spec.mounts) {
    PlannedMount plan = plan_mount(mount, spec.mount_label);
    if (!mount.uid_mappings.empty() || !mount.gid_mappings.empty()) {
      plan.owners = TRY(owners_of(mount, sandbox));
    }
    for (ImagePlan& image : images) {
      if (plan.kind == PlannedMount::Kind::bind && image.view.mountpoint == mount.source) plan.image = &image;
    }
    if (plan.kind == PlannedMount::Kind::bind && !plan.options.empty()) {
      return fail(Kind::invalid, "mount " + mount.destination,
                  "a bind mount cannot have the option \"" + plan.options[0].first + "\"");
    }
    if (plan.kind == PlannedMount::Kind::cgroup) {
      plan_cgroup_mount(plan, host, cgroup_path, own_cgroup_namespace);
    }
    plans.push_back(std::move(plan));
  }
  return plans;
}

void open_sources(const Child& child, std::vector<PlannedMount>& mounts) {
  for (PlannedMount& mount : mounts) {
    if (mount.kind == PlannedMount::Kind::bind && mount.image == nullptr) {
      const char* path = mount.spec.source.c_str();
      const Fd source = open_source(child, path);
      mount.tree = child.check(clone_tree(source.get(), "", mount.spec.flags & MS_REC), Step::open_mount_source, path);
      if (mount.owners) child.check(map_owners(mount.tree.get(), mount.owners.get()), Step::map_owners, path);
      shape_bind(child, mount.tree.get(), mount.spec);
    }
    for (CgroupEntry& entry : mount.entries) {
      const char* path = entry.directory.c_str();
      entry.tree = child.check(clone_tree(AT_FDCWD, path, false), Step::open_mount_source, path);
    }
  }
}

void take_image_views(const Child& child, std::vector<PlannedMount>& mounts) {
  for (PlannedMount& mount : mounts) {
    if (mount.image == nullptr) continue;
    mount.tree = std::move(mount.image->tree);
    shape_bind(child, mount.tree.get(), mount.spec);
  }
}

void detach_from_host(const Child& child) {
  child.check(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), Step::detach_propagation);
}

void make_mounts(const Child& child, int root, std::vector<PlannedMount>& mounts) {
  for (PlannedMount& mount : mounts) {
    switch (mount.kind) {
      case PlannedMount::Kind::bind: make_bind(child, root, mount); break;
      case PlannedMount::Kind::filesystem: make_filesystem(child, root, mount); break;
      case PlannedMount::Kind::cgroup: make_cgroup_mount(child, root, mount); break;
    }
  }
  check_proc(child, root, mounts);
}

}  // namespace keelson
