// Network namespaces by their path.
#pragma once

#include <string>

#include "cni/netlink/netlink.h"
#include "common/error.h"
#include "common/fd.h"

namespace keelson {

// Kind::not_found when nothing is there, or something that is no namespace (any more).
Result<Fd> open_network_namespace(const std::string& path);
// The one that this process is in.
Result<Fd> open_own_network_namespace();

bool is_same_namespace(const Fd& one, const Fd& other);

// Inside of another network namespace from here to the end of the scope. /proc/sys/net is that namespace's, too.
class InsideNamespace {
 public:
  static Result<InsideNamespace> enter(const Fd& target);
  InsideNamespace(InsideNamespace&&) = default;
  InsideNamespace& operator=(InsideNamespace&&) = delete;
  ~InsideNamespace();

 private:
  explicit InsideNamespace(Fd home) : home_(std::move(home)) {}
  Fd home_;
};

// A socket to the kernel's part of that namespace, usable from anywhere.
Result<NetlinkSocket> open_netlink_inside(const Fd& target);

}  // namespace keelson
