// The system calls of the default seccomp profile, by subject: what every container may call, what a
// capability brings, and what is refused by name.
//
// Names of all architectures stand together; libseccomp drops those that an architecture (or it itself)
// does not know. Source of the names: the man pages of section 2 and Linux 6.13's system call tables.

const files = `
  access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2
  fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 flock fstat fstat64 fstatat64
  fstatfs fstatfs64 futimesat getcwd getdents getdents64 lchown lchown32 link linkat lseek _llseek lstat lstat64
  mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open openat openat2 readlink readlinkat rename renameat
  renameat2 rmdir stat stat64 statfs statfs64 statx symlink symlinkat truncate truncate64 ftruncate ftruncate64
  umask unlink unlinkat utime utimensat utimensat_time64 utimes statmount listmount
  getxattr lgetxattr fgetxattr getxattrat listxattr llistxattr flistxattr listxattrat
  setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat`;

const readingAndWriting = `
  read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 sendfile sendfile64 splice tee vmsplice
  readahead fadvise64 fadvise64_64 arm_fadvise64_64 cachestat fsync fdatasync sync syncfs sync_file_range
  sync_file_range2 arm_sync_file_range ioctl pipe pipe2 io_setup io_destroy io_submit io_cancel io_getevents
  io_pgetevents io_pgetevents_time64`;

const waitingForEvents = `
  poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64 epoll_create epoll_create1 epoll_ctl
  epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2 eventfd eventfd2 signalfd signalfd4
  inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark timerfd_create timerfd_gettime
  timerfd_gettime64 timerfd_settime timerfd_settime64`;

const memory = `
  brk mmap mmap2 munmap mremap mprotect madvise mincore msync mlock mlock2 mlockall munlock munlockall membarrier
  memfd_create memfd_secret pkey_alloc pkey_free pkey_mprotect remap_file_pages mseal map_shadow_stack`;

// ptrace(2) and process_vm_readv(2) let the kernel decide since 4.8: it checks again after seccomp.
const processes = `
  fork vfork execve execveat exit exit_group wait4 waitid waitpid getpid getppid gettid getpgid getpgrp setpgid
  getsid setsid set_tid_address set_robust_list get_robust_list futex futex_time64 futex_waitv futex_wait futex_wake
  futex_requeue rseq prctl arch_prctl ptrace process_vm_readv process_vm_writev process_mrelease pidfd_open
  pidfd_send_signal getcpu getrusage getrlimit ugetrlimit setrlimit prlimit64 getpriority setpriority ioprio_get
  ioprio_set sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
  sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr
  sched_setparam sched_setscheduler sched_yield sysinfo times uname restart_syscall get_thread_area
  set_thread_area modify_ldt uretprobe uprobe riscv_flush_icache breakpoint cacheflush set_tls get_tls`;

const identity = `
  getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getgroups getgroups32 setgroups setgroups32
  getresuid getresuid32 getresgid getresgid32 setuid setuid32 setgid setgid32 setreuid setreuid32 setregid
  setregid32 setresuid setresuid32 setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32 capget capset
  seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self lsm_get_self_attr lsm_set_self_attr
  lsm_list_modules`;

const signals = `
  kill tkill tgkill alarm pause signal sigaction sigaltstack sigpending sigprocmask sigreturn sigsuspend rt_sigaction
  rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64
  rt_tgsigqueueinfo`;

// Reading the clock's state needs no capability; the kernel itself refuses to set it without CAP_SYS_TIME.
const time = `
  time gettimeofday clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
  clock_nanosleep_time64 nanosleep getitimer setitimer timer_create timer_delete timer_getoverrun timer_gettime
  timer_gettime64 timer_settime timer_settime64 adjtimex clock_adjtime clock_adjtime64`;

// With socketcall, the only way to the network of most 32-bit x86 programs, whose address family stands in
// memory out of a filter's sight: AF_ALG stays reachable through it. The field tried to refuse it and took that
// back, because 32-bit images broke (moby issue 52506, pull request 52547); an LSM can close the gap.
const network = `
  socketpair bind connect listen accept accept4 getsockname getpeername getsockopt setsockopt shutdown send sendto
  sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64 socketcall`;

const ipc = `
  ipc msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget
  mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink
  getrandom`;

/** What every container may call with any arguments. */
export const allowed: readonly string[] = [
  files,
  readingAndWriting,
  waitingForEvents,
  memory,
  processes,
  identity,
  signals,
  time,
  network,
  ipc,
].flatMap(words);

/** What a container may call as well when it has the capability; refused with EPERM when it has none that brings it. */
export const broughtByCapability: ReadonlyMap<string, readonly string[]> = new Map([
  ["CAP_BPF", words("bpf")],
  ["CAP_DAC_READ_SEARCH", words("open_by_handle_at")],
  ["CAP_PERFMON", words("perf_event_open")],
  [
    "CAP_SYS_ADMIN",
    words(`bpf fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount open_tree
      open_tree_attr perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2
      unshare`),
  ],
  ["CAP_SYS_BOOT", words("reboot")],
  ["CAP_SYS_CHROOT", words("chroot")],
  ["CAP_SYS_MODULE", words("delete_module finit_module init_module")],
  ["CAP_SYS_NICE", words("get_mempolicy mbind set_mempolicy set_mempolicy_home_node")],
  ["CAP_SYS_PACCT", words("acct")],
  ["CAP_SYS_PTRACE", words("kcmp pidfd_getfd process_madvise")],
  ["CAP_SYS_RAWIO", words("ioperm iopl")],
  ["CAP_SYS_TIME", words("clock_settime clock_settime64 settimeofday stime")],
  ["CAP_SYS_TTY_CONFIG", words("vhangup")],
  ["CAP_SYSLOG", words("syslog")],
]);

/**
 * What no container may call, whatever its capabilities: keyrings (not namespaced), io_uring and userfaultfd
 * (a large attack surface that programs do without), other kernels, swap, other processes' pages.
 */
export const refused: readonly string[] = words(`
  add_key keyctl request_key io_uring_setup io_uring_enter io_uring_register userfaultfd kexec_load kexec_file_load
  swapon swapoff pivot_root migrate_pages move_pages nfsservctl uselib ustat sysfs _sysctl vm86 vm86old`);

function words(text: string): string[] {
  return text.trim().split(/\s+/);
}
