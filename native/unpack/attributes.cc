#include "unpack/attributes.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "unpack/layer_path.h"

namespace keelson {

namespace {

// trusted.* speaks to the host, above all to overlayfs (redirect, metacopy, opaque: a layer could reach into
// other directories), and no container ever sees it; user.overlay.* is the same for unprivileged overlayfs.
// Both are left out, as if the archive had been made inside a container.
bool is_for_the_host(const std::string& name) {
  return name.starts_with("trusted.") || name.starts_with("user.overlay.");
}

std::string xattr_step(const std::string& name) { return "set the attribute " + quoted(name); }

// xattr(7): the kernel has user.* for files and directories only.
bool fits_node(const std::string& name) { return !name.starts_with("user."); }

}  // namespace

// In this order: chown(2) takes setuid, setgid and file capabilities away.
Status set_attributes(int fd, const Entry& entry) {
  if (fchown(fd, entry.uid, entry.gid) != 0) return fail_errno("set the owner");
  if (fchmod(fd, entry.mode) != 0) return fail_errno("set the mode");
  for (const Xattr& xattr : entry.xattrs) {
    if (is_for_the_host(xattr.name)) continue;
    if (fsetxattr(fd, xattr.name.c_str(), xattr.value.data(), xattr.value.size(), 0) != 0) {
      return fail_errno(xattr_step(xattr.name));
    }
  }
  return {};
}

Status set_attributes_of_node(int parent, const char* name, const Entry& entry) {
  if (fchownat(parent, name, entry.uid, entry.gid, AT_SYMLINK_NOFOLLOW) != 0) return fail_errno("set the owner");
  for (const Xattr& xattr : entry.xattrs) {
    if (is_for_the_host(xattr.name) || !fits_node(xattr.name)) continue;
    // There is no setxattrat(2) before Linux 6.13; the working directory is nobody else's here.
    if (fchdir(parent) != 0) return fail_errno("enter the directory");
    if (lsetxattr(name, xattr.name.c_str(), xattr.value.data(), xattr.value.size(), 0) != 0) {
      return fail_errno(xattr_step(xattr.name));
    }
  }
  const timespec times[2] = {entry.mtime, entry.mtime};
  if (utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW) != 0) return fail_errno("set the times");
  return {};
}

Status set_times(int fd, timespec mtime) {
  const timespec times[2] = {mtime, mtime};
  if (futimens(fd, times) != 0) return fail_errno("set the times");
  return {};
}

}  // namespace keelson
