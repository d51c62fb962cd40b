#include "monitor/handler/host_rootfs.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cstring>

#include "common/fd.h"
#include "monitor/setup/mount_api.h"
#include "monitor/setup/resolve.h"
#include "monitor/setup/rootfs.h"

namespace keelson {

namespace {

// "lowerdir+" (kernel 6.7) takes each layer by itself: no limit of one page for all
// of them, and no characters to escape. EINVAL: an older kernel.
Status configure(int fs, const RootfsSpec& rootfs) {
  for (const std::string& layer : rootfs.lower) {
    if (fs_set(fs, "lowerdir+", layer.c_str()) != 0) return fail_errno("add the layer " + layer);
  }
  if (!set_overlay_safety(fs)) return fail_errno("turn off overlay's redirects");
  if (rootfs.upper.empty()) return {};
  if (fs_set(fs, "upperdir", rootfs.upper.c_str()) != 0) return fail_errno("use the upper directory " + rootfs.upper);
  if (fs_set(fs, "workdir", rootfs.work.c_str()) != 0) return fail_errno("use the work directory " + rootfs.work);
  // As in rootfs.cc: an unmount must not wait for the whole disk.
  if (fs_set(fs, "volatile", nullptr) != 0) return fail_errno("mount without syncing");
  return {};
}

Status attach_at(const Fd& mount, const std::string& target) {
  Fd mountpoint(open(target.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!mountpoint) return fail_errno("open " + target);
  if (attach_mount(mount.get(), mountpoint.get()) != 0) return fail_errno("mount " + target);
  return {};
}

// One directory and nothing to write to is no overlay: it is shown as it is, read-only.
Status mount_plain(const std::string& layer, const std::string& target) {
  Fd mount(clone_tree(AT_FDCWD, layer.c_str(), false));
  if (!mount) return fail_errno("clone the mount of " + layer);
  if (change_mount(mount.get(), {MOUNT_ATTR_RDONLY, 0, MS_PRIVATE}, false) != 0) return fail_errno("protect " + layer);
  return attach_at(mount, target);
}

}  // namespace

namespace {

Status mount_overlay(const RootfsSpec& rootfs, const OverlayPlan& plan) {
  const std::string& target = plan.mountpoint;
  if (rootfs.upper.empty() && rootfs.lower.size() == 1) return mount_plain(rootfs.lower[0], target);
  Fd fs(fs_open("overlay"));
  if (!fs) return fail_errno("open the overlay file system");
  Status configured = configure(fs.get(), rootfs);
  if (!configured && configured.error().error_number == EINVAL) {
    if (mount("overlay", target.c_str(), "overlay", 0, plan.old_options.c_str()) != 0) return fail_errno("mount " + target);
    return {};
  }
  if (!configured) return configured;
  Fd root(fs_mount(fs.get(), 0));
  if (!root) return fail_errno("mount the layers for " + target);
  return attach_at(root, target);
}

Status unmount(const std::string& target) {
  // EINVAL: nothing is mounted there.
  if (umount2(target.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0 && errno != EINVAL && errno != ENOENT) {
    return fail_errno("unmount " + target);
  }
  return {};
}

// A part of an image takes the place of the whole, looked up with the image as its root.
Status narrow(const std::string& mountpoint, const std::string& sub_path) {
  Fd whole(open(mountpoint.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!whole) return fail_errno("open " + mountpoint);
  Fd part(open_in_root(whole.get(), sub_path.c_str(), O_PATH));
  Fd tree(part ? clone_tree(part.get(), "", false) : -1);
  if (!tree) return fail(Kind::invalid, "find in the image " + sub_path, strerror(errno));
  whole.reset();
  part.reset();
  if (Status unmounted = unmount(mountpoint); !unmounted) return unmounted;
  return attach_at(tree, mountpoint);
}

Status mount_image(const ImageView& image, const OverlayPlan& plan) {
  RootfsSpec layers;
  layers.lower = image.lower;
  if (Status mounted = mount_overlay(layers, plan); !mounted) return mounted;
  if (image.sub_path.empty()) return {};
  return narrow(image.mountpoint, image.sub_path);
}

Status make_root_directories(const std::vector<std::string>& paths, const std::string& mountpoint) {
  if (paths.empty()) return {};
  Fd root(open(mountpoint.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!root) return fail_errno("open " + mountpoint);
  for (const std::string& path : paths) {
    Fd made(make_directory_in_root(root.get(), path.c_str()));
    if (!made && errno != ENOTDIR && errno != ELOOP) return fail_errno("make the directory " + path);
  }
  return {};
}

// A runtime that prepares the root before it has pivoted into it follows such a link out to the host
// (CVE-2023-27561, CVE-2026-41579, CVE-2026-47766). Nobody else writes to this root yet, so the answer stays true.
Status refuse_links(const std::string& mountpoint) {
  Fd root(open(mountpoint.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!root) return fail_errno("open " + mountpoint);
  for (const char* name : {"dev", "proc", "sys"}) {
    struct stat entry;
    if (fstatat(root.get(), name, &entry, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno != ENOENT) return fail_errno("look at the image's /" + std::string(name));
    } else if (!S_ISDIR(entry.st_mode)) {
      return fail(Kind::invalid, "use the image's /" + std::string(name),
                  S_ISLNK(entry.st_mode) ? "it is a symbolic link, and not a directory" : "it is not a directory");
    }
  }
  return {};
}

// As in rootfs.cc, for a runtime that makes nothing but the root's own mount read-only.
Status keep_root_writable(const std::vector<std::string>& paths, const std::string& mountpoint) {
  if (paths.empty()) return {};
  Fd root(open(mountpoint.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!root) return fail_errno("open " + mountpoint);
  for (const std::string& path : paths) {
    Fd directory(open_in_root(root.get(), path.c_str(), O_PATH | O_DIRECTORY));
    if (!directory) continue;
    Fd tree(clone_tree(directory.get(), "", false));
    if (!tree || attach_mount(tree.get(), directory.get()) != 0) return fail_errno("keep writable " + path);
  }
  return {};
}

Status mount_all(const RootfsSpec& rootfs, const RootfsPlan& plan, bool readonly_root) {
  if (Status mounted = mount_overlay(rootfs, plan.root); !mounted) return mounted;
  if (Status safe = refuse_links(plan.root.mountpoint); !safe) return safe;
  if (Status made = make_root_directories(rootfs.directories, plan.root.mountpoint); !made) return made;
  if (readonly_root) {
    Status kept = keep_root_writable(rootfs.directories, plan.root.mountpoint);
    if (!kept) return kept;
  }
  for (size_t at = 0; at < rootfs.images.size(); ++at) {
    if (Status mounted = mount_image(rootfs.images[at], plan.images[at].view); !mounted) return mounted;
  }
  return {};
}

}  // namespace

Status mount_host_rootfs(const RootfsSpec& rootfs, const std::string& bundle, bool readonly_root) {
  Status mounted = mount_all(rootfs, plan_rootfs(rootfs, bundle), readonly_root);
  if (!mounted) undo_host_rootfs(rootfs, bundle);
  return mounted;
}

void undo_host_rootfs(const RootfsSpec& rootfs, const std::string& bundle) {
  if (unmount_host_rootfs(rootfs, bundle)) forget_failed_mount(rootfs);
}

Status unmount_host_rootfs(const RootfsSpec& rootfs, const std::string& bundle) {
  Status first = unmount(bundle + "/rootfs");
  for (const ImageView& image : rootfs.images) {
    Status unmounted = unmount(image.mountpoint);
    if (first) first = unmounted;
  }
  return first;
}

}  // namespace keelson
