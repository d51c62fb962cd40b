#include "cni/netlink/network_namespace.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cstdlib>

namespace keelson {

Result<Fd> open_network_namespace(const std::string& path) {
  Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd && (errno == ENOENT || errno == ENOTDIR)) {
    return fail(Kind::not_found, "open network namespace " + path, "it does not exist");
  }
  if (!fd) return fail_errno("open network namespace " + path);
  struct statfs system{};
  if (fstatfs(fd.get(), &system) != 0) return fail_errno("stat network namespace " + path);
  // Once a namespace is unmounted, its mount point is an empty file.
  if (system.f_type != NSFS_MAGIC) return fail(Kind::not_found, "open network namespace " + path, "it is not a namespace");
  return fd;
}

Result<Fd> open_own_network_namespace() { return open_network_namespace("/proc/self/ns/net"); }

bool is_same_namespace(const Fd& one, const Fd& other) {
  struct stat a{};
  struct stat b{};
  return fstat(one.get(), &a) == 0 && fstat(other.get(), &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

Result<InsideNamespace> InsideNamespace::enter(const Fd& target) {
  Fd home = TRY(open_own_network_namespace());
  if (setns(target.get(), CLONE_NEWNET) != 0) return fail_errno("enter the network namespace");
  return InsideNamespace(std::move(home));
}

InsideNamespace::~InsideNamespace() {
  // Everything after this would affect the wrong namespace.
  if (home_ && setns(home_.get(), CLONE_NEWNET) != 0) abort();
}

Result<NetlinkSocket> open_netlink_inside(const Fd& target) {
  InsideNamespace inside = TRY(InsideNamespace::enter(target));
  return NetlinkSocket::open(NETLINK_ROUTE);
}

}  // namespace keelson
