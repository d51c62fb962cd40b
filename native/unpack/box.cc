#include "unpack/box.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace keelson {

namespace {

constexpr const char* step = "make the layer's directory the root";

}  // namespace

Status leave_namespaces() {
  if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) != 0) {
    return fail_errno("make namespaces of its own");
  }
  // Or what is mounted here would show on the host, and pivot_root(2) would refuse.
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return fail_errno("make its mounts private");
  return {};
}

Result<Fd> enter_box(Fd directory) {
  constexpr unsigned clone_flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH;
  Fd tree(static_cast<int>(syscall(SYS_open_tree, directory.get(), "", clone_flags)));
  if (!tree) return fail_errno(step);
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;
  if (syscall(SYS_mount_setattr, tree.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0) {
    return fail_errno(step);
  }
  constexpr unsigned by_descriptor = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
  if (syscall(SYS_move_mount, tree.get(), "", directory.get(), "", by_descriptor) != 0) return fail_errno(step);
  if (fchdir(tree.get()) != 0) return fail_errno(step);
  // The old root comes to lie over the new one; then it is the one that "." reaches, and is let go.
  if (syscall(SYS_pivot_root, ".", ".") != 0) return fail_errno(step);
  if (umount2(".", MNT_DETACH) != 0) return fail_errno("let go of the host's file tree");
  if (chdir("/") != 0) return fail_errno(step);
  Fd root(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root) return fail_errno(step);
  return root;
}

}  // namespace keelson
