// Overlay and pivot_root. Sources: Documentation/filesystems/overlayfs.rst, pivot_root(2).
#include "rootfs.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mount_api.h"

namespace keelson {

namespace {

// Overlay splits its options at commas and its layers at colons, unless a backslash stands before.
std::string escaped(const std::string& path) {
  std::string out;
  for (char c : path) {
    if (c == ':' || c == ',' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

// One directory and nothing to write to is no overlay: it is shown as it is, read-only.
bool is_plain(const RootfsSpec& spec) { return spec.upper.empty() && spec.lower.size() == 1; }

int plain_mount(const Child& child, const RootfsSpec& spec, int user_namespace = -1) {
  int mount = clone_tree(AT_FDCWD, spec.lower[0].c_str(), false);
  if (mount < 0) child.die(Step::mount_root, spec.lower[0].c_str());
  if (user_namespace >= 0 && map_owners(mount, user_namespace, false) != 0) {
    child.die(Step::map_owners, spec.lower[0].c_str());
  }
  if (change_mount(mount, {MOUNT_ATTR_RDONLY, 0, MS_PRIVATE}, false) != 0) child.die(Step::mount_root);
  return mount;
}

// Each layer as a parameter of its own (Linux 6.5): no limit of one page for all names together.
// -1 with EINVAL on the first layer where the kernel does not know the parameter.
int overlay_mount(const Child& child, const RootfsSpec& spec, bool* too_old) {
  int fs = fs_open("overlay");
  if (fs < 0) child.die(Step::mount_root, "overlay");
  for (size_t layer = 0; layer < spec.lower.size(); ++layer) {
    if (fs_set(fs, "lowerdir+", spec.lower[layer].c_str()) == 0) continue;
    if (layer == 0 && errno == EINVAL) {
      *too_old = true;
      close(fs);
      return -1;
    }
    child.die(Step::mount_root, spec.lower[layer].c_str());
  }
  if (!spec.upper.empty()) {
    if (fs_set(fs, "upperdir", spec.upper.c_str()) != 0) child.die(Step::mount_root, spec.upper.c_str());
    if (fs_set(fs, "workdir", spec.work.c_str()) != 0) child.die(Step::mount_root, spec.work.c_str());
    // Without it the container's exit would wait until the whole file system below, with all that
    // other containers and unpacked images have written, is on disk. A writable layer does not
    // outlive a crash of the host: after it every container is made anew.
    if (fs_set(fs, "volatile", nullptr) != 0) child.die(Step::mount_root, "volatile");
  }
  int mount = fs_mount(fs, 0);
  if (mount < 0) child.die(Step::mount_root);
  close(fs);
  return mount;
}

}  // namespace

RootfsPlan plan_rootfs(const RootfsSpec& spec, std::string_view bundle) {
  RootfsPlan plan{spec, std::string(bundle) + "/rootfs", "lowerdir=", {}, spec};
  for (size_t layer = 0; layer < spec.lower.size(); ++layer) {
    plan.mapped_names.push_back("layer-" + std::to_string(layer));
    plan.mapped.lower[layer] = plan.mountpoint + "/" + plan.mapped_names.back();
  }
  for (size_t layer = 0; layer < spec.lower.size(); ++layer) {
    plan.old_options += (layer == 0 ? "" : ":") + escaped(spec.lower[layer]);
  }
  if (!spec.upper.empty()) {
    plan.old_options += ",upperdir=" + escaped(spec.upper) + ",workdir=" + escaped(spec.work) + ",volatile";
  }
  return plan;
}

void forget_failed_mount(const RootfsSpec& spec) {
  if (spec.upper.empty()) return;
  const std::string marks = spec.work + "/work/incompat";
  unlink((marks + "/volatile/dirty").c_str());
  rmdir((marks + "/volatile").c_str());
  rmdir(marks.c_str());
}

int mount_rootfs(const Child& child, const RootfsPlan& plan) {
  bool too_old = false;
  int root = is_plain(plan.spec) ? plain_mount(child, plan.spec) : overlay_mount(child, plan.spec, &too_old);
  if (too_old) {
    if (mount("overlay", plan.mountpoint.c_str(), "overlay", 0, plan.old_options.c_str()) != 0) {
      child.die(Step::mount_root);
    }
    root = open(plan.mountpoint.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) child.die(Step::mount_root);
    return root;
  }
  int target = open(plan.mountpoint.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (target < 0) child.die(Step::mount_root, plan.mountpoint.c_str());
  if (attach_mount(root, target) != 0) child.die(Step::mount_root, plan.mountpoint.c_str());
  close(target);
  return root;
}

int mount_scratch(const Child& child, const RootfsPlan& plan) {
  int fs = fs_open("tmpfs");
  if (fs < 0 || fs_set(fs, "size", "1m") != 0 || fs_set(fs, "mode", "755") != 0) child.die(Step::mount_root, "tmpfs");
  int scratch = fs_mount(fs, 0);
  int target = open(plan.mountpoint.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (scratch < 0 || target < 0 || attach_mount(scratch, target) != 0 || fchdir(scratch) != 0) {
    child.die(Step::mount_root, plan.mountpoint.c_str());
  }
  close(target);
  close(fs);
  return scratch;
}

int make_mapped_rootfs(const Child& child, const RootfsPlan& plan, int scratch, int user_namespace) {
  if (is_plain(plan.spec)) return plain_mount(child, plan.spec, user_namespace);
  for (size_t layer = 0; layer < plan.spec.lower.size(); ++layer) {
    const char* path = plan.spec.lower[layer].c_str();
    const char* name = plan.mapped_names[layer].c_str();
    int tree = clone_tree(AT_FDCWD, path, false);
    if (tree < 0) child.die(Step::mount_root, path);
    if (map_owners(tree, user_namespace, false) != 0) child.die(Step::map_owners, path);
    if (mkdirat(scratch, name, 0700) != 0) child.die(Step::mount_root, path);
    int target = openat(scratch, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (target < 0 || attach_mount(tree, target) != 0) child.die(Step::mount_root, path);
    close(target);
    close(tree);
  }
  bool too_old = false;
  int root = overlay_mount(child, plan.mapped, &too_old);
  if (too_old) child.die(Step::mount_root, "lowerdir+", ENOSYS);
  return root;
}

void attach_mapped_rootfs(const Child& child, int root) {
  int target = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (target < 0 || attach_mount(root, target) != 0) child.die(Step::mount_root);
  close(target);
}

void pivot_to(const Child& child, int root) {
  if (fchdir(root) != 0) child.die(Step::pivot_root);
  // The old root comes to lie over the new one at the same place, so no directory for it
  // is needed inside the image; then it is the one that "." reaches, and is let go.
  if (syscall(SYS_pivot_root, ".", ".") != 0) child.die(Step::pivot_root);
  if (umount2(".", MNT_DETACH) != 0) child.die(Step::leave_host_root);
  if (chdir("/") != 0) child.die(Step::leave_host_root);
}

}  // namespace keelson
