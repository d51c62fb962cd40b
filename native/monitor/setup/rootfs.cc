// Sources: Documentation/filesystems/overlayfs.rst, pivot_root(2), runtime-spec config-linux.md (Masked Paths,
// Readonly Paths).
#include "monitor/setup/rootfs.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "monitor/setup/filesystem.h"

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
bool is_plain(const OverlayPlan& plan) { return plan.upper.empty() && plan.lower.size() == 1; }

int plain_mount(const Child& child, const OverlayPlan& plan, int user_namespace = -1) {
  const char* layer = plan.lower[0].c_str();
  int mount = clone_tree(AT_FDCWD, layer, false);
  if (mount < 0) child.die(Step::mount_root, layer);
  if (user_namespace >= 0 && map_owners(mount, user_namespace) != 0) child.die(Step::map_owners, layer);
  if (change_mount(mount, {MOUNT_ATTR_RDONLY, 0, MS_PRIVATE}, false) != 0) child.die(Step::mount_root);
  return mount;
}

// Each layer as a parameter of its own (Linux 6.7): no limit of one page for all names together.
// -1 with EINVAL on the first layer where the kernel does not know the parameter.
int overlay_mount(const Child& child, const OverlayPlan& plan, const std::vector<std::string>& lower, bool* too_old) {
  int fs = fs_open("overlay");
  if (fs < 0) child.die(Step::mount_root, "overlay");
  for (size_t layer = 0; layer < lower.size(); ++layer) {
    if (fs_set(fs, "lowerdir+", lower[layer].c_str()) == 0) continue;
    if (layer == 0 && errno == EINVAL) {
      *too_old = true;
      close(fs);
      return -1;
    }
    child.die(Step::mount_root, lower[layer].c_str());
  }
  if (!plan.upper.empty()) {
    if (fs_set(fs, "upperdir", plan.upper.c_str()) != 0) child.die(Step::mount_root, plan.upper.c_str());
    if (fs_set(fs, "workdir", plan.work.c_str()) != 0) child.die(Step::mount_root, plan.work.c_str());
    // Without it the container's exit would wait until the whole file system below, with all that
    // other containers and unpacked images have written, is on disk. A writable layer does not
    // outlive a crash of the host: after it every container is made again.
    if (fs_set(fs, "volatile", nullptr) != 0) child.die(Step::mount_root, "volatile");
  }
  // What a layer's own attributes say of other places is not followed, whatever the host's defaults for overlay are.
  if (fs_set(fs, "redirect_dir", "nofollow") != 0 || fs_set(fs, "metacopy", "off") != 0) {
    child.die(Step::mount_root, "redirect_dir");
  }
  int mount = fs_mount(fs, 0);
  if (mount < 0) child.die(Step::mount_root);
  close(fs);
  return mount;
}

OverlayPlan plan_overlay(std::vector<std::string> lower, std::string mountpoint, const std::string& scratch,
                         const std::string& prefix) {
  OverlayPlan plan;
  plan.lower = std::move(lower);
  plan.mountpoint = std::move(mountpoint);
  plan.old_options = "lowerdir=";
  for (const std::string& layer : plan.lower) {
    plan.old_options += (plan.mapped_names.empty() ? "" : ":") + escaped(layer);
    plan.mapped_names.push_back(prefix + std::to_string(plan.mapped_names.size()));
    plan.mapped_lower.push_back(scratch + "/" + plan.mapped_names.back());
  }
  plan.old_options += ",redirect_dir=nofollow,metacopy=off";
  return plan;
}

// mount(2) instead of the calls that an older kernel lacks.
int mount_the_old_way(const Child& child, const OverlayPlan& plan) {
  if (mount("overlay", plan.mountpoint.c_str(), "overlay", 0, plan.old_options.c_str()) != 0) {
    child.die(Step::mount_root);
  }
  int root = open(plan.mountpoint.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) child.die(Step::mount_root);
  return root;
}

// The sub path is looked up by the kernel with the image as its root: no link in there leads out (CVE-2024-1753).
int make_image_view(const Child& child, const ImagePlan& image, int scratch, int user_namespace) {
  const OverlayPlan& view = image.view;
  int whole = user_namespace >= 0 ? make_mapped_overlay(child, view, scratch, user_namespace) : -1;
  if (whole < 0 && is_plain(view)) whole = plain_mount(child, view);
  bool too_old = false;
  if (whole < 0) whole = overlay_mount(child, view, view.lower, &too_old);
  if (too_old) whole = mount_the_old_way(child, view);
  if (image.sub_path.empty() && !too_old) return whole;
  // A tree that hangs nowhere cannot be copied, not even in part.
  if (!too_old) attach_at(child, whole, view.mountpoint);
  int part = open_in_root(whole, image.sub_path.empty() ? "/" : image.sub_path.c_str(), O_PATH);
  int tree = part < 0 ? -1 : clone_tree(part, "", false);
  if (tree < 0) child.die(Step::find_in_image, image.sub_path.c_str());
  close(part);
  close(whole);
  return tree;
}

}  // namespace

RootfsPlan plan_rootfs(const RootfsSpec& spec, std::string_view bundle) {
  const std::string scratch = std::string(bundle) + "/rootfs";
  RootfsPlan plan{plan_overlay(spec.lower, scratch, scratch, "layer-"), {}, spec.directories};
  if (!spec.upper.empty()) {
    plan.root.upper = spec.upper;
    plan.root.work = spec.work;
    plan.root.old_options += ",upperdir=" + escaped(spec.upper) + ",workdir=" + escaped(spec.work) + ",volatile";
  }
  for (const ImageView& image : spec.images) {
    const std::string prefix = "image-" + std::to_string(plan.images.size()) + "-layer-";
    plan.images.push_back({plan_overlay(image.lower, image.mountpoint, scratch, prefix), image.sub_path, -1});
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

int mount_rootfs(const Child& child, const OverlayPlan& plan) {
  bool too_old = false;
  int root = is_plain(plan) ? plain_mount(child, plan) : overlay_mount(child, plan, plan.lower, &too_old);
  if (too_old) return mount_the_old_way(child, plan);
  attach_at(child, root, plan.mountpoint);
  return root;
}

void attach_at(const Child& child, int mount, const std::string& mountpoint) {
  int target = open(mountpoint.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (target < 0 || attach_mount(mount, target) != 0) child.die(Step::mount_root, mountpoint.c_str());
  close(target);
}

void make_directories(const Child& child, int root, const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    int directory = make_directory_in_root(root, path.c_str());
    if (directory < 0 && errno != ENOTDIR && errno != ELOOP) child.die(Step::make_directory, path.c_str());
    if (directory >= 0) close(directory);
  }
}

void keep_writable(const Child& child, int root, const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    int directory = open_in_root(root, path.c_str(), O_PATH | O_DIRECTORY);
    if (directory < 0) continue;
    int tree = clone_tree(directory, "", false);
    if (tree < 0 || attach_mount(tree, directory) != 0) child.die(Step::make_volume_writable, path.c_str());
    close(tree);
    close(directory);
  }
}

void make_image_views(const Child& child, std::vector<ImagePlan>& images, int scratch, int user_namespace) {
  for (ImagePlan& image : images) image.tree = make_image_view(child, image, scratch, user_namespace);
}

int mount_scratch(const Child& child, const OverlayPlan& plan) {
  int scratch = new_mount("tmpfs", {{"size", "1m"}, {"mode", "755"}}, 0);
  if (scratch < 0) child.die(Step::mount_root, "tmpfs");
  attach_at(child, scratch, plan.mountpoint);
  if (fchdir(scratch) != 0) child.die(Step::mount_root, plan.mountpoint.c_str());
  return scratch;
}

int make_mapped_overlay(const Child& child, const OverlayPlan& plan, int scratch, int user_namespace) {
  if (is_plain(plan)) return plain_mount(child, plan, user_namespace);
  for (size_t layer = 0; layer < plan.lower.size(); ++layer) {
    const char* path = plan.lower[layer].c_str();
    const char* name = plan.mapped_names[layer].c_str();
    int tree = clone_tree(AT_FDCWD, path, false);
    if (tree < 0) child.die(Step::mount_root, path);
    if (map_owners(tree, user_namespace) != 0) child.die(Step::map_owners, path);
    if (mkdirat(scratch, name, 0700) != 0) child.die(Step::mount_root, path);
    int target = openat(scratch, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (target < 0 || attach_mount(tree, target) != 0) child.die(Step::mount_root, path);
    close(target);
    close(tree);
  }
  bool too_old = false;
  int root = overlay_mount(child, plan, plan.mapped_lower, &too_old);
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

namespace {

// A masked file is covered with the host's /dev/null, never the container's, which its image
// or a neighbour could have replaced (CVE-2025-31133). Every path is opened once and
// the mount put on that descriptor; below /proc it must really be procfs (CVE-2025-52881).
// The path's descriptor, or -1 when there is no such path.
int open_checked(const Child& child, int root, const char* path, Step step) {
  int target = open_in_root(root, path, O_PATH);
  if (target < 0) {
    if (errno == ENOENT || errno == ENOTDIR) return -1;
    child.die(step, path);
  }
  if (strncmp(path, "/proc/", 6) == 0 && !is_on(target, PROC_SUPER_MAGIC)) child.die(step, path, EXDEV);
  return target;
}

int null_tree(const Child& child) {
  int tree = clone_tree(AT_FDCWD, "/dev/null", false);
  if (tree < 0) child.die(Step::mask_path, "/dev/null");
  if (!is_null_device(tree)) child.die(Step::mask_path, "/dev/null", ENODEV);
  // The node is the host's: nothing about it may be changed from inside.
  if (change_mount(tree, {MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSUID, 0, MS_PRIVATE}, false) != 0) {
    child.die(Step::mask_path, "/dev/null");
  }
  return tree;
}

int empty_directory(const Child& child) {
  int tree = new_mount("tmpfs", {{"size", "4k"}, {"mode", "755"}},
                       MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
  if (tree < 0) child.die(Step::mask_path);
  return tree;
}

// What covers all masked paths of one kind: made at the first, copied for the next
// from the place where the first one hangs (a detached mount cannot be copied).
class Cover {
 public:
  explicit Cover(int (*make)(const Child&)) : make_(make) {}

  void put_on(const Child& child, int target, const char* path) {
    int tree = first_ < 0 ? make_(child) : clone_tree(first_, "", false);
    if (tree < 0 || attach_mount(tree, target) != 0) child.die(Step::mask_path, path);
    if (first_ < 0) first_ = tree;
    else close(tree);
  }
  void finish() const {
    if (first_ >= 0) close(first_);
  }

 private:
  int (*make_)(const Child&);
  int first_ = -1;
};

}  // namespace

void mask_paths(const Child& child, int root, const std::vector<std::string>& paths) {
  Cover files(null_tree), directories(empty_directory);
  for (const std::string& path : paths) {
    int target = open_checked(child, root, path.c_str(), Step::mask_path);
    if (target < 0) continue;
    struct stat status;
    if (fstat(target, &status) != 0) child.die(Step::mask_path, path.c_str());
    (S_ISDIR(status.st_mode) ? directories : files).put_on(child, target, path.c_str());
    close(target);
  }
  files.finish();
  directories.finish();
}

void make_paths_readonly(const Child& child, int root, const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    int target = open_checked(child, root, path.c_str(), Step::make_path_readonly);
    if (target < 0) continue;
    int tree = clone_tree(target, "", true);
    if (tree < 0 || change_mount(tree, {MOUNT_ATTR_RDONLY, 0, 0}, true) != 0 || attach_mount(tree, target) != 0) {
      child.die(Step::make_path_readonly, path.c_str());
    }
    close(tree);
    close(target);
  }
}

}  // namespace keelson
