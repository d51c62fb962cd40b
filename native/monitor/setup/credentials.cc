// Credentials of a container's process. Sources: capabilities(7), credentials(7), seccomp(2).
#include "monitor/setup/credentials.h"

#include <grp.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace keelson {

namespace {

constexpr int last_possible_capability = 63;

uint64_t bit(int capability) { return uint64_t{1} << capability; }

uint64_t bounding_set() {
  uint64_t set = 0;
  for (int capability = 0; capability <= last_possible_capability; ++capability) {
    int has = prctl(PR_CAPBSET_READ, capability, 0, 0, 0);
    if (has < 0) break;
    if (has == 1) set |= bit(capability);
  }
  return set;
}

uint64_t known_capabilities() {
  uint64_t set = 0;
  for (int capability = 0; capability <= last_possible_capability; ++capability) {
    if (prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0) set |= bit(capability);
  }
  return set;
}

uint64_t permitted_set() {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (syscall(SYS_capget, &header, data) != 0) return 0;
  return data[0].permitted | uint64_t{data[1].permitted} << 32;
}

void set_capabilities(const Child& child, uint64_t effective, uint64_t permitted, uint64_t inheritable) {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {
      {static_cast<uint32_t>(effective), static_cast<uint32_t>(permitted), static_cast<uint32_t>(inheritable)},
      {static_cast<uint32_t>(effective >> 32), static_cast<uint32_t>(permitted >> 32),
       static_cast<uint32_t>(inheritable >> 32)},
  };
  if (syscall(SYS_capset, &header, data) != 0) child.die(Step::set_capabilities);
}

void drop_bounding_set(const Child& child, uint64_t host, uint64_t kept) {
  for (int capability = 0; capability <= last_possible_capability; ++capability) {
    if ((host & ~kept & bit(capability)) == 0) continue;
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) child.die(Step::set_capabilities);
  }
}

void raise_ambient_set(const Child& child, uint64_t ambient) {
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) child.die(Step::set_capabilities);
  for (int capability = 0; capability <= last_possible_capability; ++capability) {
    if ((ambient & bit(capability)) == 0) continue;
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) != 0) child.die(Step::set_capabilities);
  }
}

void load_filter(const Child& child, const SeccompFilter* filter) {
  if (filter == nullptr || filter->program().empty()) return;
  const SeccompProgram& code = filter->program();
  sock_fprog program = {static_cast<unsigned short>(code.size()), const_cast<sock_filter*>(code.data())};
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) child.die(Step::load_seccomp);
}

}  // namespace

Credentials plan_credentials(const ProcessSpec& process, const SeccompFilter* filter, bool in_user_namespace) {
  const uint64_t host = in_user_namespace ? known_capabilities() : bounding_set() & permitted_set();
  const Capabilities& wanted = process.capabilities;
  Credentials plan{process, {}, host, filter};
  // The kernel's own rules between the sets (capabilities(7)); without them capset would refuse the rest too.
  plan.capabilities.bounding = wanted.bounding & host;
  plan.capabilities.permitted = wanted.permitted & host;
  plan.capabilities.effective = wanted.effective & plan.capabilities.permitted;
  plan.capabilities.inheritable = wanted.inheritable & plan.capabilities.bounding;
  plan.capabilities.ambient = wanted.ambient & plan.capabilities.permitted & plan.capabilities.inheritable;
  return plan;
}

void take_credentials(const Child& child, const Credentials& credentials) {
  const ProcessSpec& process = credentials.process;
  const Capabilities& target = credentials.capabilities;
  drop_bounding_set(child, credentials.host_capabilities, target.bounding);
  // Without it the change of user would take away the capabilities that the next steps need.
  if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0) child.die(Step::set_capabilities);
  if (setgroups(process.groups.size(), process.groups.data()) != 0) child.die(Step::set_groups);
  if (setresgid(process.gid, process.gid, process.gid) != 0) child.die(Step::set_groups);
  if (setresuid(process.uid, process.uid, process.uid) != 0) child.die(Step::set_user);

  if (process.no_new_privileges) {
    set_capabilities(child, target.effective, target.permitted, target.inheritable);
    raise_ambient_set(child, target.ambient);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) child.die(Step::set_no_new_privileges);
    load_filter(child, credentials.filter);
  } else {
    // A filter without no_new_privs needs CAP_SYS_ADMIN: it is loaded before the last
    // capabilities go, so it must let capset and prctl pass.
    const uint64_t host = credentials.host_capabilities;
    set_capabilities(child, host, host, 0);
    load_filter(child, credentials.filter);
    set_capabilities(child, target.effective, target.permitted, target.inheritable);
    raise_ambient_set(child, target.ambient);
  }
}

}  // namespace keelson
