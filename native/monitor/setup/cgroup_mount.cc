// The mount of type "cgroup". On v2 it is cgroup2: cut at the container by its cgroup namespace, or
// the host's whole tree in the host's namespace, as /proc/self/cgroup tells there. On v1 it is a tmpfs
// with one bind mount per hierarchy of the container's own directory, read-only, which keeps
// release_agent out of reach (CVE-2022-0492). A hybrid host's v2 tree is not among them: programs that
// find one take the host for v2, and no other runtime shows it.
#include "monitor/setup/cgroup_mount.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "monitor/setup/mount_api.h"
#include "monitor/setup/resolve.h"

namespace keelson {

namespace {

std::string last_component(const std::string& path) { return path.substr(path.rfind('/') + 1); }

void shape_entry(const Child& child, int tree, const MountSpec& spec) {
  MountChange change{mount_attributes(spec.flags), mount_attributes(spec.cleared_flags), MS_PRIVATE};
  if (change_mount(tree, change, false) != 0) child.die(Step::set_mount_options, spec.destination.c_str());
}

void make_v2(const Child& child, int target, const PlannedMount& mount) {
  const char* destination = mount.spec.destination.c_str();
  int tree = -1;
  if (mount.entries.empty()) {
    int fs = fs_open("cgroup2");
    if (fs < 0) child.die(Step::mount, destination);
    tree = fs_mount(fs, mount_attributes(mount.spec.flags));
    if (tree < 0) child.die(Step::mount, destination);
    close(fs);
  } else {
    tree = mount.entries[0].tree;
    shape_entry(child, tree, mount.spec);
  }
  attach_inside(child, tree, target, destination);
  close(tree);
}

void make_v1(const Child& child, int target, const PlannedMount& mount) {
  const char* destination = mount.spec.destination.c_str();
  int fs = fs_open("tmpfs");
  if (fs < 0 || fs_set(fs, "mode", "755") != 0 || fs_set(fs, "size", "64k") != 0) child.die(Step::mount, destination);
  int tmpfs = fs_mount(fs, mount_attributes(mount.spec.flags & ~uint64_t{MS_RDONLY}));
  if (tmpfs < 0) child.die(Step::mount, destination);
  close(fs);
  attach_inside(child, tmpfs, target, destination);
  for (const CgroupEntry& entry : mount.entries) {
    int directory = make_directory_in_root(tmpfs, entry.name.c_str());
    if (directory < 0) child.die(Step::make_mount_target, destination);
    shape_entry(child, entry.tree, mount.spec);
    if (attach_mount(entry.tree, directory) != 0) child.die(Step::mount, entry.directory.c_str());
    close(directory);
    close(entry.tree);
    for (const std::string& alias : entry.aliases) {
      if (symlinkat(entry.name.c_str(), tmpfs, alias.c_str()) != 0) child.die(Step::mount, destination);
    }
  }
  if ((mount.spec.flags & MS_RDONLY) && change_mount(tmpfs, {MOUNT_ATTR_RDONLY, 0, 0}, false) != 0) {
    child.die(Step::set_mount_options, destination);
  }
  close(tmpfs);
}

}  // namespace

void plan_cgroup_mount(PlannedMount& plan, const CgroupHost& host, std::string_view cgroup_path, bool own_namespace) {
  plan.cgroup_v2 = host.unified();
  if (host.unified()) {
    if (!own_namespace) plan.entries.push_back({"", host.v2_root(), {}, -1});
    return;
  }
  const std::string path(cgroup_path);
  for (const auto& [controller, mount_point] : host.v1()) {
    std::string name = last_component(mount_point);
    if (plan.entries.empty() || plan.entries.back().name != name) {
      plan.entries.push_back({name, mount_point + path, {}, -1});
    }
    if (controller != name && !controller.starts_with("name=")) plan.entries.back().aliases.push_back(controller);
  }
}

void make_cgroup_mount(const Child& child, int root, const PlannedMount& mount) {
  const char* destination = mount.spec.destination.c_str();
  int target = make_directory_in_root(root, destination);
  if (target < 0) child.die(Step::make_mount_target, destination);
  if (mount.cgroup_v2) make_v2(child, target, mount);
  else make_v1(child, target, mount);
  close(target);
}

}  // namespace keelson
