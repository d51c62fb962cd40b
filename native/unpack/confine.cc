#include "unpack/confine.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <utility>
#include <vector>

namespace keelson {

Status leave_namespaces() {
  if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) != 0) {
    return fail_errno("create its namespaces");
  }
  // Otherwise mounts made here would propagate to the host, and pivot_root(2) would fail.
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return fail_errno("make its mounts private");
  return {};
}

Result<Fd> enter_box(Fd directory) {
  constexpr const char* step = "make the layer's directory the root";
  constexpr unsigned clone_flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH;
  Fd tree(open_tree(directory.get(), "", clone_flags));
  if (!tree) return fail_errno(step);
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;
  if (mount_setattr(tree.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0) return fail_errno(step);
  constexpr unsigned by_descriptor = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
  if (move_mount(tree.get(), "", directory.get(), "", by_descriptor) != 0) return fail_errno(step);
  if (fchdir(tree.get()) != 0) return fail_errno(step);
  // This stacks the old root on top of the new one; "." then refers to the old root, which is detached (pivot_root(2)).
  if (syscall(SYS_pivot_root, ".", ".") != 0) return fail_errno(step);
  if (umount2(".", MNT_DETACH) != 0) return fail_errno("detach the host's file tree");
  if (chdir("/") != 0) return fail_errno(step);
  Fd root(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root) return fail_errno(step);
  return root;
}

// Capabilities and other process attributes.

namespace {

constexpr int kept[] = {
    CAP_CHOWN,         // entries' owners
    CAP_DAC_OVERRIDE,  // files in directories that their owner made read-only
    CAP_FOWNER,        // mode, times and attributes of files whose owner was changed
    CAP_FSETID,        // set-group-id for a group that the process is not in
    CAP_MKNOD,         // devices, and overlayfs's whiteouts
    CAP_SETFCAP,       // security.capability
    CAP_SYS_ADMIN,     // trusted.overlay.opaque
};

constexpr uint64_t kept_mask() {
  uint64_t mask = 0;
  for (int capability : kept) mask |= uint64_t{1} << capability;
  return mask;
}

// The kernel returns EINVAL past its last capability.
Status drop_bounding_set() {
  for (int capability = 0; capability < 64; ++capability) {
    if ((kept_mask() >> capability & 1) != 0) continue;
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0) continue;
    if (errno == EINVAL) return {};
    return fail_errno("drop capabilities from the bounding set");
  }
  return {};
}

// Permitted and effective: the kept capabilities that the process has. Inheritable: none.
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
  // The bounding set comes first: dropping from it needs CAP_SETPCAP.
  TRY(drop_bounding_set());
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) return fail_errno("clear ambient capabilities");
  TRY(drop_capabilities());
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return fail_errno("set no_new_privs");
  // Only root may read the process's memory or attach to it.
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return fail_errno("make it non-dumpable");
  const rlimit none{0, 0};
  if (setrlimit(RLIMIT_CORE, &none) != 0) return fail_errno("set RLIMIT_CORE");
  // If the parent exited before this line, our input is closed, which ends this process too.
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) return fail_errno("set the parent-death signal");
  return {};
}

// The system call filter. Written by hand rather than with libseccomp: a list of numbers and three argument checks need no
// compiler. Calls that are allowed regardless of their arguments cost nothing, because the kernel caches that (Linux 5.11).

namespace {

#if defined(__x86_64__)
constexpr uint32_t architecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t architecture = AUDIT_ARCH_AARCH64;
#else
#error "no seccomp architecture number is defined for this architecture"
#endif

constexpr long allowed[] = {
    // Reading the layer, writing the blob and the report.
    SYS_read, SYS_write, SYS_fcntl, SYS_close,
    // Finding files of the layer,
    SYS_openat, SYS_openat2, SYS_fstat, SYS_newfstatat, SYS_readlinkat, SYS_getdents64, SYS_lseek, SYS_fchdir,
    // creating and replacing them,
    SYS_mkdirat, SYS_mknodat, SYS_symlinkat, SYS_linkat, SYS_unlinkat,
    // and setting their attributes.
    SYS_fchown, SYS_fchownat, SYS_fchmod, SYS_fsetxattr, SYS_lsetxattr, SYS_utimensat,
    SYS_ftruncate,
    // Memory, the second thread, exit.
    SYS_brk, SYS_munmap, SYS_mremap, SYS_madvise, SYS_futex, SYS_rseq, SYS_set_robust_list, SYS_rt_sigaction,
    SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_restart_syscall, SYS_exit, SYS_exit_group,
#if defined(__SANITIZE_ADDRESS__)
    // Calls of the sanitizers' runtime, in every thread and for its reports.
    SYS_sigaltstack, SYS_sched_getaffinity, SYS_prctl, SYS_gettid, SYS_getpid, SYS_sched_yield,
    SYS_tgkill, SYS_prlimit64, SYS_clock_gettime, SYS_ioctl, SYS_dup, SYS_getrandom,
#endif
};

// Exactly the flags of glibc's pthread_create(3): no process, no namespace.
constexpr uint32_t new_thread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
                                CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;

using Program = std::vector<sock_filter>;

void load(Program& program, size_t offset) {
  program.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offset)));
}

void end_with(Program& program, uint32_t action) { program.push_back(BPF_STMT(BPF_RET | BPF_K, action)); }

void on_call(Program& program, long number, const Program& rule) {
  auto past = static_cast<uint8_t>(rule.size());
  program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(number), 0, past));
  program.insert(program.end(), rule.begin(), rule.end());
}

// The low half of an argument, on little-endian machines; none of the flags is in the high half.
constexpr size_t argument(size_t index) { return offsetof(seccomp_data, args) + index * sizeof(uint64_t); }

Program unless_executable(size_t protection) {
  Program rule;
  load(rule, argument(protection));
  rule.push_back(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1));
  end_with(rule, SECCOMP_RET_KILL_PROCESS);
  end_with(rule, SECCOMP_RET_ALLOW);
  return rule;
}

Program only_threads() {
  Program rule;
  load(rule, argument(0));
  rule.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, new_thread, 1, 0));
  end_with(rule, SECCOMP_RET_KILL_PROCESS);
  end_with(rule, SECCOMP_RET_ALLOW);
  return rule;
}

Program always(uint32_t action) {
  Program rule;
  end_with(rule, action);
  return rule;
}

Program unpacking() {
  Program program;
  load(program, offsetof(seccomp_data, arch));
  program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, architecture, 1, 0));
  end_with(program, SECCOMP_RET_KILL_PROCESS);
  load(program, offsetof(seccomp_data, nr));
  for (long number : allowed) on_call(program, number, always(SECCOMP_RET_ALLOW));
  on_call(program, SYS_mmap, unless_executable(2));
  on_call(program, SYS_mprotect, unless_executable(2));
  on_call(program, SYS_clone, only_threads());
  // Its flags are in memory, which a filter cannot read; glibc falls back to clone(2).
  on_call(program, SYS_clone3, always(SECCOMP_RET_ERRNO | ENOSYS));
  end_with(program, SECCOMP_RET_KILL_PROCESS);
  return program;
}

Status allow_only_unpacking() {
  Program program = unpacking();
  sock_fprog filter{static_cast<uint16_t>(program.size()), program.data()};
  // SPEC_ALLOW: before Linux 5.16 a filter enables mitigations that slow down every branch, against code that this process
  // cannot run anyway.
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &filter) != 0) {
    return fail_errno("install the seccomp filter");
  }
  return {};
}

}  // namespace

Result<Fd> confine(Fd directory) {
  // In this order: moving mounts needs the capabilities, and both steps need system calls that the filter does not allow.
  Fd root = TRY(enter_box(std::move(directory)));
  TRY(drop_privileges());
  TRY(allow_only_unpacking());
  return root;
}

}  // namespace keelson
