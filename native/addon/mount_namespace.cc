// Sources: mount_namespaces(7), pivot_root(2), move_mount(2).
#include "addon/mount_namespace.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <utility>

#include "addon/own_thread.h"
#include "common/empty_mounts.h"

namespace keelson {

namespace {

constexpr int mount_attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;

Result<Fd> small_tmpfs() {
  const Fd context(::fsopen("tmpfs", FSOPEN_CLOEXEC));
  if (!context) return fail_errno("open a tmpfs context");
  for (auto [key, value] : {std::pair("size", "4k"), std::pair("mode", "755")}) {
    if (::fsconfig(context.get(), FSCONFIG_SET_STRING, key, value, 0) != 0) return fail_errno("set a tmpfs option");
  }
  if (::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) return fail_errno("create a tmpfs");
  Fd made(::fsmount(context.get(), FSMOUNT_CLOEXEC, mount_attributes));
  if (!made) return fail_errno("mount a tmpfs");
  return made;
}

Status populate(int root, const Fd& null) {
  const char* for_root = empty_mounts_root + 1;  // without the slash: relative to the future root
  if (::mkdirat(root, for_root, 0755) != 0 || ::mkdirat(root, "dev", 0755) != 0) {
    return fail_errno("create its directories");
  }
  const Fd target(::openat(root, "dev/null", O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444));
  if (!target || ::move_mount(null.get(), "", target.get(), "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0) {
    return fail_errno("mount /dev/null in it");
  }
  mount_attr read_only = {};
  read_only.attr_set = MOUNT_ATTR_RDONLY;
  if (::mount_setattr(root, "", AT_EMPTY_PATH, &read_only, sizeof read_only) != 0) return fail_errno("make it read-only");
  return {};
}

Result<Fd> make() {
  if (::unshare(CLONE_NEWNS) != 0) return fail_errno("unshare the mount namespace");
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return fail_errno("make all mounts private");
  Fd space(::open("/proc/thread-self/ns/mnt", O_RDONLY | O_CLOEXEC));
  if (!space) return fail_errno("open the mount namespace");
  const Fd null(::open_tree(AT_FDCWD, "/dev/null", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  if (!null) return fail_errno("clone the mount of /dev/null");
  const Fd root = TRY(small_tmpfs());
  // Any mount point works: all other mounts are detached below.
  if (::move_mount(root.get(), "", AT_FDCWD, "/proc", MOVE_MOUNT_F_EMPTY_PATH) != 0) return fail_errno("attach the root");
  TRY(populate(root.get(), null));
  if (::fchdir(root.get()) != 0 || ::syscall(SYS_pivot_root, ".", ".") != 0) return fail_errno("pivot to the new root");
  if (::umount2(".", MNT_DETACH) != 0) return fail_errno("detach the host's mounts");
  return space;
}

}  // namespace

// A thread can have its own mount namespace, root and working directory.
Result<Fd> empty_mount_namespace() {
  Result<Fd> space;
  TRY(in_own_thread([&] { space = make(); }));
  return space;
}

}  // namespace keelson
