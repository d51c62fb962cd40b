#include "host_rootfs.h"

#include <fcntl.h>
#include <sys/mount.h>

#include "../common/fd.h"
#include "mount_api.h"
#include "rootfs.h"

namespace keelson {

namespace {

// "lowerdir+" (kernel 6.7) takes each layer by itself: no limit of one page for all
// of them, and no characters to escape. EINVAL: an older kernel.
Status configure(int fs, const RootfsSpec& rootfs) {
  for (const std::string& layer : rootfs.lower) {
    if (fs_set(fs, "lowerdir+", layer.c_str()) != 0) return fail_errno("add the layer " + layer);
  }
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

Status mount_host_rootfs(const RootfsSpec& rootfs, const std::string& bundle) {
  std::string target = bundle + "/rootfs";
  if (rootfs.upper.empty() && rootfs.lower.size() == 1) return mount_plain(rootfs.lower[0], target);
  Fd fs(fs_open("overlay"));
  if (!fs) return fail_errno("open the overlay file system");
  Status configured = configure(fs.get(), rootfs);
  if (!configured && configured.error().error_number == EINVAL) {
    std::string options = plan_rootfs(rootfs, bundle).old_options;
    if (mount("overlay", target.c_str(), "overlay", 0, options.c_str()) != 0) return fail_errno("mount " + target);
    return {};
  }
  if (!configured) return configured;
  Fd root(fs_mount(fs.get(), 0));
  if (!root) return fail_errno("mount the layers for " + target);
  return attach_at(root, target);
}

void undo_host_rootfs(const RootfsSpec& rootfs, const std::string& bundle) {
  if (unmount_host_rootfs(bundle)) forget_failed_mount(rootfs);
}

Status unmount_host_rootfs(const std::string& bundle) {
  std::string target = bundle + "/rootfs";
  // EINVAL: nothing is mounted there.
  if (umount2(target.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0 && errno != EINVAL && errno != ENOENT) {
    return fail_errno("unmount " + target);
  }
  return {};
}

}  // namespace keelson
