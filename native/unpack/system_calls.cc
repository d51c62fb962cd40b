// Written by hand rather than with libseccomp: a list of numbers and three looks at an argument need no compiler.
// Calls allowed whatever their arguments cost nothing per call, because the kernel remembers them (Linux 5.11).
#include "unpack/system_calls.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <vector>

namespace keelson {

namespace {

#if defined(__x86_64__)
constexpr uint32_t architecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t architecture = AUDIT_ARCH_AARCH64;
#else
#error "seccomp's number of this architecture is not known here"
#endif

constexpr long allowed[] = {
    // The layer's bytes, the blob, the answer.
    SYS_read, SYS_write, SYS_fcntl, SYS_close,
    // Files of the layer: found,
    SYS_openat, SYS_openat2, SYS_fstat, SYS_newfstatat, SYS_readlinkat, SYS_getdents64, SYS_lseek, SYS_fchdir,
    // made and replaced,
    SYS_mkdirat, SYS_mknodat, SYS_symlinkat, SYS_linkat, SYS_unlinkat, SYS_renameat2,
    // and given their attributes.
    SYS_fchown, SYS_fchownat, SYS_fchmod, SYS_fsetxattr, SYS_lsetxattr, SYS_utimensat,
    // Memory, the second thread, the end.
    SYS_brk, SYS_munmap, SYS_mremap, SYS_madvise, SYS_futex, SYS_rseq, SYS_set_robust_list, SYS_rt_sigaction,
    SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_restart_syscall, SYS_exit, SYS_exit_group,
#if defined(__SANITIZE_ADDRESS__)
    // What the sanitizers' runtime adds to every thread, and what it writes a report with.
    SYS_sigaltstack, SYS_sched_getaffinity, SYS_prctl, SYS_gettid, SYS_getpid, SYS_sched_yield,
    SYS_tgkill, SYS_prlimit64, SYS_clock_gettime, SYS_ioctl, SYS_dup, SYS_getrandom,
#endif
};

// As glibc's pthread_create(3) asks for it, and for nothing else: no process, no namespace.
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

// The low half of an argument on the little-endian machines there are; none of the flags needs the high one.
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
  // Its flags lie in memory, where no filter sees them; glibc takes clone(2) then.
  on_call(program, SYS_clone3, always(SECCOMP_RET_ERRNO | ENOSYS));
  end_with(program, SECCOMP_RET_KILL_PROCESS);
  return program;
}

}  // namespace

Status allow_only_unpacking() {
  Program program = unpacking();
  sock_fprog filter{static_cast<uint16_t>(program.size()), program.data()};
  // SPEC_ALLOW: before Linux 5.16 a filter would slow every branch down, against code that the process may not run.
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &filter) != 0) {
    return fail_errno("filter its system calls");
  }
  return {};
}

}  // namespace keelson
