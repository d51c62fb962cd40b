// Kernel parameters that belong to a namespace, so that a pod may set them.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/error.h"

namespace keelson {

// A sysctl, named by its file below /proc/sys: "net/ipv4/ip_forward".
struct Sysctl {
  std::string file;
  std::string value;
};

// Refuses sysctls of the host, of a namespace that is not in `own` (CLONE_NEW* flags), and names or values that could
// be parsed as more than one sysctl (CVE-2022-0811).
Result<std::vector<Sysctl>> check_sysctls(const std::vector<std::pair<std::string, std::string>>& sysctls, int own);

// Writes to the host's procfs, for the namespaces of the calling process. Returns errno or 0.
int write_sysctl(const Sysctl& sysctl);
// The same from a process that is root in the user namespace of the descriptor, in the caller's other namespaces.
int write_sysctl_inside(const Sysctl& sysctl, int user_namespace);

}  // namespace keelson
