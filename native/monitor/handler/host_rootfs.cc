#include "monitor/handler/host_rootfs.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "monitor/setup/rootfs.h"
#include "monitor/setup/child_stdio.h"

namespace keelson {

namespace {

int unmount(const std::string& target) {
  // EINVAL: nothing is mounted there.
  if (umount2(target.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0 && errno != EINVAL && errno != ENOENT) return -1;
  return 0;
}

// A runtime that prepares the root before it has pivoted into it follows such a link out to the host
// (CVE-2023-27561, CVE-2026-41579, CVE-2026-47766). Nobody else writes to this root yet, so the answer stays true.
void refuse_links(const Child& child, int root) {
  for (const char* name : {"/dev", "/proc", "/sys"}) {
    struct stat entry;
    if (fstatat(root, name + 1, &entry, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno != ENOENT) child.die(Step::use_image_directory, name);
    } else if (!S_ISDIR(entry.st_mode)) {
      child.die(Step::use_image_directory, name, S_ISLNK(entry.st_mode) ? ELOOP : ENOTDIR);
    }
  }
}

// In the host's mount namespace, where the mounts stay when the child ends.
class HostRootfs final : public Procedure {
 public:
  HostRootfs(RootfsPlan plan, bool readonly_root) : plan_(std::move(plan)), readonly_root_(readonly_root) {}

  void enter(const Child& child) override { close_descriptors(child); }

  void set_up(const Child& child) override {
    int root = mount_rootfs(child, plan_.root);
    refuse_links(child, root);
    make_directories(child, root, plan_.directories);
    if (readonly_root_) keep_writable(child, root, plan_.directories);
    make_image_views(child, plan_.images, -1, -1);
    for (const ImagePlan& image : plan_.images) {
      // A part of an image takes the place of the whole, which was mounted there to be looked up in.
      const std::string& mountpoint = image.view.mountpoint;
      if (unmount(mountpoint) != 0) child.die(Step::mount_root, mountpoint.c_str());
      attach_at(child, image.tree, mountpoint);
    }
    child.settle();
    _exit(0);
  }

  const LastSteps* last_steps() const override { return nullptr; }

 private:
  RootfsPlan plan_;
  bool readonly_root_;
};

}  // namespace

std::shared_ptr<Attempt> mount_host_rootfs(Loop& loop, Reaper& reaper, const RootfsSpec& rootfs,
                                           const std::string& bundle, bool readonly_root, DoneStatus done) {
  HostRootfs procedure(plan_rootfs(rootfs, bundle), readonly_root);
  return spawn(loop, reaper, procedure, {}, [rootfs, bundle, done = std::move(done)](Result<Started> ended) mutable {
    if (ended) return done({});
    undo_host_rootfs(rootfs, bundle);
    done(std::unexpected(std::move(ended.error())));
  });
}

void undo_host_rootfs(const RootfsSpec& rootfs, const std::string& bundle) {
  if (unmount_host_rootfs(rootfs, bundle)) forget_failed_mount(rootfs);
}

Status unmount_host_rootfs(const RootfsSpec& rootfs, const std::string& bundle) {
  Status first;
  auto take_down = [&first](const std::string& mountpoint) {
    if (unmount(mountpoint) != 0 && first) first = fail_errno("unmount " + mountpoint);
  };
  take_down(bundle + "/rootfs");
  for (const ImageView& image : rootfs.images) take_down(image.mountpoint);
  return first;
}

}  // namespace keelson
