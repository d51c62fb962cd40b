#include "unpack/privileges.h"

#include <linux/capability.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace keelson {

namespace {

constexpr int kept[] = {
    CAP_CHOWN,         // entries' owners
    CAP_DAC_OVERRIDE,  // files in directories that their owner made read-only
    CAP_FOWNER,        // mode, times and attributes of what belongs to somebody else by then
    CAP_FSETID,        // set-group-id for a group that is not ours
    CAP_MKNOD,         // devices, and overlayfs's whiteouts
    CAP_SETFCAP,       // security.capability
    CAP_SYS_ADMIN,     // trusted.overlay.opaque
};

constexpr uint64_t kept_mask() {
  uint64_t mask = 0;
  for (int capability : kept) mask |= uint64_t{1} << capability;
  return mask;
}

// The kernel ends the list of its capabilities with EINVAL.
Status drop_bounding_set() {
  for (int capability = 0; capability < 64; ++capability) {
    if ((kept_mask() >> capability & 1) != 0) continue;
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0) continue;
    if (errno == EINVAL) return {};
    return fail_errno("drop capabilities from the bounding set");
  }
  return {};
}

// Permitted and effective: what is kept, as far as we have it; inheritable: nothing.
Status drop_capabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2]{};
  if (syscall(SYS_capget, &header, data) != 0) return fail_errno("read the capabilities");
  for (int word = 0; word < 2; ++word) {
    uint32_t keep = data[word].permitted & static_cast<uint32_t>(kept_mask() >> (32 * word));
    data[word] = {keep, keep, 0};
  }
  if (syscall(SYS_capset, &header, data) != 0) return fail_errno("drop capabilities");
  return {};
}

}  // namespace

Status drop_privileges() {
  // The bounding set first: dropping from it needs CAP_SETPCAP.
  TRY(drop_bounding_set());
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) return fail_errno("clear ambient capabilities");
  TRY(drop_capabilities());
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return fail_errno("set no_new_privs");
  // Nobody but root looks into the process or attaches to it.
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return fail_errno("hide its memory");
  const rlimit none{0, 0};
  if (setrlimit(RLIMIT_CORE, &none) != 0) return fail_errno("set RLIMIT_CORE");
  // A parent that died before this line has closed our input, which ends us too.
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) return fail_errno("set the parent-death signal");
  return {};
}

}  // namespace keelson
