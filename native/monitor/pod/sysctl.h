// Kernel parameters that belong to a namespace, and are therefore a pod's to set.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/error.h"

namespace keelson {

// A sysctl by its file below /proc/sys: "net/ipv4/ip_forward".
struct Sysctl {
  std::string file;
  std::string value;
};

// Refuses names of the host, of a namespace that is not in `own` (CLONE_NEW* flags),
// and names or values that could be read as more than one sysctl (CVE-2022-0811).
Result<std::vector<Sysctl>> check_sysctls(const std::vector<std::pair<std::string, std::string>>& sysctls, int own);

// Writes below the real procfs of the host, for the namespaces of the calling process. errno or 0.
int write_sysctl(const Sysctl& sysctl);
// The same by a process that is root in the user namespace behind the descriptor, and otherwise where the caller is.
int write_sysctl_inside(const Sysctl& sysctl, int user_namespace);

}  // namespace keelson
