// Who the container's process is: user, groups, capabilities, no_new_privs, seccomp.
#pragma once

#include <vector>

#include "common/error.h"
#include "monitor/setup/child.h"
#include "monitor/setup/seccomp_filter.h"
#include "monitor/setup/spec.h"

namespace keelson {

struct Credentials {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
  Capabilities capabilities;  // what the host does not allow is taken out
  uint64_t host_capabilities = 0;
  bool no_new_privileges = false;
  SeccompFilter filter;  // empty: none
  bool filter_comes_last = false;  // left to the last steps; only with no_new_privs
};

// Reads the filter and asks the kernel what the monitor may pass on. Whoever enters a user namespace
// has every capability there is, in it.
Result<Credentials> plan_credentials(const ProcessSpec& process, const std::string& seccomp_filter_path,
                                     bool in_user_namespace);

// The bounding set, groups, user and capabilities, and the filter: behind it only execve is to come.
void take_credentials(const Child& child, const Credentials& credentials);

}  // namespace keelson
