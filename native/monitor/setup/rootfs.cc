// Sources: Documentation/filesystems/overlayfs.rst, pivot_root(2), runtime-spec config-linux.md (Masked Paths,
// Readonly Paths).
#include "monitor/setup/rootfs.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <span>
#include <utility>

#include "common/overlayfs.h"
#include "monitor/setup/filesystem.h"

namespace keelson {

namespace {

// overlayfs splits its options at commas that are not escaped by a backslash.
std::string escaped(const std::string& path) {
  std::string out;
  for (char c : path) {
    if (c == ',' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

// A single layer without an upper directory needs no overlay: it is bind mounted read-only.
bool is_plain(const OverlayPlan& plan) { return plan.upper.empty() && plan.lower.size() == 1; }

Fd plain_mount(const Child& child, const OverlayPlan& plan, int user_namespace = -1) {
  const char* layer = plan.lower[0].c_str();
  Fd mount = child.check(clone_tree(AT_FDCWD, layer, false), Step::mount_root, layer);
  if (user_namespace >= 0) child.check(map_owners(mount.get(), user_namespace), Step::map_owners, layer);
  // An overlay has its own flags, independent of its layers'. This mount inherits those of the store's mount, which a
  // hardened host may have set.
  constexpr MountChange change{MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOEXEC, MS_PRIVATE};
  child.check(change_mount(mount.get(), change, false), Step::mount_root);
  return mount;
}

// If overlayfs cannot create its directory in the work directory, as on a full disk, it logs that and mounts read-only.
void check_writable(const Child& child, const OverlayPlan& plan, int mount) {
  struct statvfs state;
  child.check(fstatvfs(mount, &state), Step::mount_root);
  if (plan.upper.empty() || (state.f_flag & ST_RDONLY) == 0) return;
  const char* path = plan.work.c_str();
  const Fd work = child.check(Fd(open(path, O_PATH | O_DIRECTORY | O_CLOEXEC)), Step::mount_root, path);
  child.check(mkdirat(work.get(), "reason", 0), Step::mount_root, path);
  child.die(Step::mount_root, path, EROFS);
}

// Each layer as a separate parameter (Linux 6.7), to avoid the limit of one page for all names together. No Fd if the
// kernel does not know the parameter: EINVAL on the first layer, or only at the end.
Fd overlay_mount(const Child& child, const OverlayPlan& plan, const std::vector<std::string>& lower) {
  const Fd fs = child.check(fs_open("overlay"), Step::mount_root, "overlay");
  if (overlay_checks_options_late(fs.get())) return Fd();
  auto set = [&](const char* key, const char* value, const char* object) {
    child.check(fs_set(fs.get(), key, value), Step::mount_root, object);
  };
  if (fs_set(fs.get(), "lowerdir+", lower[0].c_str()) != 0) {
    if (errno == EINVAL) return Fd();
    child.die(Step::mount_root, lower[0].c_str());
  }
  for (const std::string& layer : std::span(lower).subspan(1)) set("lowerdir+", layer.c_str(), layer.c_str());
  if (!plan.upper.empty()) {
    set("upperdir", plan.upper.c_str(), plan.upper.c_str());
    set("workdir", plan.work.c_str(), plan.work.c_str());
    // Without it the container's exit would wait until everything on the underlying file system, including data of
    // other containers and unpacked images, has been synced to disk. A writable layer need not survive a crash of the
    // host, after which every container is recreated.
    set("volatile", nullptr, "volatile");
  }
  // Redirect and metacopy attributes in a layer are not followed, whatever the host's overlayfs defaults are.
  set("redirect_dir", "nofollow", "redirect_dir");
  set("metacopy", "off", "metacopy");
  child.check(fs_label(fs.get(), plan.label), Step::mount_root, plan.label.c_str());
  Fd mount = child.check(fs_mount(fs.get(), 0), Step::mount_root);
  check_writable(child, plan, mount.get());
  return mount;
}

OverlayPlan plan_overlay(std::vector<std::string> lower, std::string mountpoint, const std::string& label,
                         const std::string& scratch, const std::string& prefix) {
  OverlayPlan plan;
  plan.lower = std::move(lower);
  plan.mountpoint = std::move(mountpoint);
  plan.label = label;
  for (size_t layer = 0; layer < plan.lower.size(); ++layer) {
    plan.mapped_names.push_back(prefix + std::to_string(layer));
    plan.mapped_lower.push_back(scratch + "/" + plan.mapped_names.back());
  }
  plan.page_options = "redirect_dir=nofollow,metacopy=off";
  // Quoted, because a label contains commas.
  if (!label.empty()) plan.page_options += ",context=\"" + label + "\"";
  return plan;
}

// The kernel looks up the sub path with the image as its root, so no link in the image leads out (CVE-2024-1753).
Fd make_image_view(const Child& child, const ImagePlan& image, int scratch, int user_namespace) {
  const OverlayPlan& view = image.view;
  Fd whole = user_namespace >= 0 ? make_mapped_overlay(child, view, scratch, user_namespace)
             : is_plain(view)    ? plain_mount(child, view)
                                 : overlay_mount(child, view, view.lower);
  const bool too_old = !whole;
  if (too_old) whole = mount_rootfs_with_page(child, view);
  if (image.sub_path.empty() && !too_old) return whole;
  // A detached tree cannot be cloned, not even partially.
  if (!too_old) attach_at(child, whole.get(), view.mountpoint);
  const char* path = image.sub_path.empty() ? "/" : image.sub_path.c_str();
  const Fd part = child.check(open_in_root(whole.get(), path, O_PATH), Step::find_in_image, image.sub_path.c_str());
  return child.check(clone_tree(part.get(), "", false), Step::find_in_image, image.sub_path.c_str());
}

}  // namespace

RootfsPlan plan_rootfs(const RootfsSpec& spec, std::string_view bundle, const std::string& label) {
  const std::string scratch = std::string(bundle) + "/rootfs";
  RootfsPlan plan{plan_overlay(spec.lower, scratch, label, scratch, "layer-"), {}, spec.directories};
  if (!spec.upper.empty()) {
    plan.root.upper = spec.upper;
    plan.root.work = spec.work;
    plan.root.page_options += ",upperdir=" + escaped(spec.upper) + ",workdir=" + escaped(spec.work) + ",volatile";
  }
  for (const ImageView& image : spec.images) {
    const std::string prefix = "image-" + std::to_string(plan.images.size()) + "-layer-";
    std::vector<std::string> lower = image.lower;
    // A label needs an overlay, and that needs at least two layers: add the mount point, an empty directory.
    if (!label.empty() && lower.size() == 1) lower.push_back(image.mountpoint);
    plan.images.push_back({plan_overlay(std::move(lower), image.mountpoint, label, scratch, prefix), image.sub_path, {}});
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

Fd detached_rootfs(const Child& child, const OverlayPlan& plan) {
  return is_plain(plan) ? plain_mount(child, plan) : overlay_mount(child, plan, plan.lower);
}

Fd mount_rootfs(const Child& child, const OverlayPlan& plan) {
  Fd root = detached_rootfs(child, plan);
  if (!root) return mount_rootfs_with_page(child, plan);
  attach_at(child, root.get(), plan.mountpoint);
  return root;
}

Fd mount_rootfs_with_page(const Child& child, const OverlayPlan& plan) {
  Fd opened[most_overlay_layers];
  const std::span layers = std::span(opened).first(plan.lower.size());
  for (size_t at = 0; at < layers.size(); ++at) {
    const char* path = plan.lower[at].c_str();
    layers[at] = child.check(Fd(open(path, O_PATH | O_DIRECTORY | O_CLOEXEC)), Step::mount_root, path);
  }
  const char* place = plan.mountpoint.c_str();
  child.check(mount_overlay_with_page(layers, plan.page_options.c_str(), place, 0), Step::mount_root,
              "with one page of options");
  Fd root = child.check(Fd(open(place, O_PATH | O_DIRECTORY | O_CLOEXEC)), Step::mount_root, place);
  check_writable(child, plan, root.get());
  return root;
}

void attach_at(const Child& child, int mount, const std::string& mountpoint) {
  const char* path = mountpoint.c_str();
  const Fd target = child.check(Fd(open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)), Step::mount_root, path);
  child.check(attach_mount(mount, target.get()), Step::mount_root, path);
}

void make_directories(const Child& child, int root, const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    const Fd directory = make_directory_in_root(root, path.c_str());
    if (!directory && errno != ENOTDIR && errno != ELOOP) child.die(Step::make_directory, path.c_str());
  }
}

void keep_writable(const Child& child, int root, const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    const Fd directory = open_in_root(root, path.c_str(), O_PATH | O_DIRECTORY);
    // A link to the root would make all of it writable.
    if (!directory || is_same_file(directory.get(), root)) continue;
    const Fd tree = child.check(clone_tree(directory.get(), "", false), Step::make_volume_writable, path.c_str());
    child.check(attach_mount(tree.get(), directory.get()), Step::make_volume_writable, path.c_str());
  }
}

void make_image_views(const Child& child, std::vector<ImagePlan>& images, int scratch, int user_namespace) {
  for (ImagePlan& image : images) image.tree = make_image_view(child, image, scratch, user_namespace);
}

Fd mount_scratch(const Child& child, const OverlayPlan& plan) {
  Fd scratch = child.check(new_mount("tmpfs", {{"size", "1m"}, {"mode", "755"}}, 0, plan.label), Step::mount_root, "tmpfs");
  attach_at(child, scratch.get(), plan.mountpoint);
  child.check(fchdir(scratch.get()), Step::mount_root, plan.mountpoint.c_str());
  return scratch;
}

Fd make_mapped_overlay(const Child& child, const OverlayPlan& plan, int scratch, int user_namespace) {
  if (is_plain(plan)) return plain_mount(child, plan, user_namespace);
  for (size_t layer = 0; layer < plan.lower.size(); ++layer) {
    const char* path = plan.lower[layer].c_str();
    const char* name = plan.mapped_names[layer].c_str();
    const Fd tree = child.check(clone_tree(AT_FDCWD, path, false), Step::mount_root, path);
    child.check(map_owners(tree.get(), user_namespace), Step::map_owners, path);
    child.check(mkdirat(scratch, name, 0700), Step::mount_root, path);
    const Fd target = child.check(Fd(openat(scratch, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)),
                                  Step::mount_root, path);
    child.check(attach_mount(tree.get(), target.get()), Step::mount_root, path);
  }
  Fd root = overlay_mount(child, plan, plan.mapped_lower);
  if (!root) child.die(Step::mount_root, "lowerdir+", ENOSYS);
  return root;
}

void attach_mapped_rootfs(const Child& child, int root) {
  const Fd target = child.check(Fd(open(".", O_PATH | O_DIRECTORY | O_CLOEXEC)), Step::mount_root);
  child.check(attach_mount(root, target.get()), Step::mount_root);
}

void pivot_to(const Child& child, int root) {
  child.check(fchdir(root), Step::pivot_root);
  // The old root is stacked over the new one at the same place, so it needs no directory inside the image; "." then
  // refers to the old root, which is detached.
  child.check(syscall(SYS_pivot_root, ".", "."), Step::pivot_root);
  child.check(umount2(".", MNT_DETACH), Step::leave_host_root);
  child.check(chdir("/"), Step::leave_host_root);
}

namespace {

// A masked file is covered with the host's /dev/null, never the container's, which its image or another container could
// have replaced (CVE-2025-31133). Every path is opened once, and the mount is attached to that descriptor; below /proc
// it must really be on procfs (CVE-2025-52881). No Fd if the path does not exist.
Fd open_checked(const Child& child, int root, const char* path, Step step) {
  Fd target = open_in_root(root, path, O_PATH);
  if (!target && errno != ENOENT && errno != ENOTDIR) child.die(step, path);
  const bool is_in_proc = strncmp(path, "/proc/", 6) == 0;
  if (target && is_in_proc && !is_on(target.get(), PROC_SUPER_MAGIC)) child.die(step, path, EXDEV);
  return target;
}

Fd null_tree(const Child& child, const std::string&) { return child.check(null_mount(), Step::mask_path, "/dev/null"); }

Fd empty_directory(const Child& child, const std::string& label) {
  constexpr uint64_t attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
  return child.check(new_mount("tmpfs", {{"size", "4k"}, {"mode", "755"}}, attributes, label), Step::mask_path);
}

// The mount that covers all masked paths of one kind: created for the first path, cloned from there for the next ones
// (a detached mount cannot be cloned).
class Cover {
 public:
  using Make = Fd (*)(const Child&, const std::string& label);
  Cover(Make make, const std::string& label) : make_(make), label_(label) {}

  void put_on(const Child& child, int target, const char* path) {
    Fd tree = first_ ? child.check(clone_tree(first_.get(), "", false), Step::mask_path, path) : make_(child, label_);
    child.check(attach_mount(tree.get(), target), Step::mask_path, path);
    if (!first_) first_ = std::move(tree);
  }

 private:
  Make make_;
  const std::string& label_;
  Fd first_;
};

}  // namespace

void mask_paths(const Child& child, int root, const std::vector<std::string>& paths, const std::string& label) {
  Cover files(null_tree, label), directories(empty_directory, label);
  for (const std::string& path : paths) {
    const Fd target = open_checked(child, root, path.c_str(), Step::mask_path);
    if (!target) continue;
    struct stat status;
    child.check(fstat(target.get(), &status), Step::mask_path, path.c_str());
    (S_ISDIR(status.st_mode) ? directories : files).put_on(child, target.get(), path.c_str());
  }
}

void make_paths_readonly(const Child& child, int root, const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    const Fd target = open_checked(child, root, path.c_str(), Step::make_path_readonly);
    if (!target) continue;
    auto check = [&](auto made) { return child.check(std::move(made), Step::make_path_readonly, path.c_str()); };
    const Fd tree = check(clone_tree(target.get(), "", true));
    check(change_mount(tree.get(), {MOUNT_ATTR_RDONLY, 0, 0}, true));
    check(attach_mount(tree.get(), target.get()));
  }
}

}  // namespace keelson
