// Opens and enters network namespaces.
#pragma once

#include <string>

#include "cni/netlink/netlink.h"
#include "common/error.h"
#include "common/fd.h"

namespace keelson {

// Kind::not_found if the path does not exist or is not, or no longer, a namespace.
Result<Fd> open_network_namespace(const std::string& path);
// The namespace of this process.
Result<Fd> open_own_network_namespace();

bool is_same_namespace(const Fd& one, const Fd& other);

// Enters another network namespace until the end of the scope. This affects /proc/sys/net too.
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

// A netlink socket in that namespace, which can be used from any other.
Result<NetlinkSocket> open_netlink_inside(const Fd& target);

}  // namespace keelson
