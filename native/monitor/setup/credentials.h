// Who the container's process is: user, groups, capabilities, no_new_privs, seccomp.
#pragma once

#include "monitor/setup/child.h"
#include "monitor/setup/seccomp_filter.h"
#include "monitor/setup/spec.h"

namespace keelson {

struct Credentials {
  const ProcessSpec& process;
  Capabilities capabilities;  // the process's, less what the host does not allow
  uint64_t host_capabilities = 0;
  const SeccompFilter* filter = nullptr;  // null: none, or left to the last steps
};

// Asks the kernel what the monitor may pass on. Whoever enters a user namespace has every capability there is, in it.
// Borrows the arguments.
Credentials plan_credentials(const ProcessSpec& process, const SeccompFilter* filter, bool in_user_namespace);

// The bounding set, groups, user and capabilities, and the filter: behind it only execve is to come.
void take_credentials(const Child& child, const Credentials& credentials);

}  // namespace keelson
