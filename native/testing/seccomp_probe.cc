// Tests a seccomp filter: tries system calls and prints "name errno" for each, 0 for success.
// Usage: seccomp-probe [filter], a file of struct sock_filter to load first. Used by pod/spec/seccomp-default.test.ts.

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

struct Probe {
  const char* name;
  long number;
  unsigned long arguments[5];
};

constexpr unsigned long minus_one = ~0UL;

// With these arguments an unfiltered kernel returns success or a harmless error, never EPERM for root.
constexpr Probe probes[] = {
    {"getpid", SYS_getpid, {}},
    {"execveat", SYS_execveat, {minus_one, 0, 0, 0, 0}},
    {"ptrace", SYS_ptrace, {0}},
    {"process_vm_readv", SYS_process_vm_readv, {1, 0, 0, 0, 0}},
    {"unshare_uts", SYS_unshare, {CLONE_NEWUTS}},
    {"unshare_user", SYS_unshare, {CLONE_NEWUSER}},
    {"unshare_nothing", SYS_unshare, {0}},
    {"setns", SYS_setns, {minus_one, 0}},
    {"clone_plain", SYS_clone, {SIGCHLD}},
    {"clone_newns", SYS_clone, {CLONE_NEWNS | SIGCHLD}},
    {"clone_newcgroup", SYS_clone, {CLONE_NEWCGROUP | SIGCHLD}},
    {"clone_newuts", SYS_clone, {CLONE_NEWUTS | SIGCHLD}},
    {"clone_newipc", SYS_clone, {CLONE_NEWIPC | SIGCHLD}},
    {"clone_newuser", SYS_clone, {CLONE_NEWUSER | SIGCHLD}},
    {"clone_newpid", SYS_clone, {CLONE_NEWPID | SIGCHLD}},
    {"clone_newnet", SYS_clone, {CLONE_NEWNET | SIGCHLD}},
    {"clone_newuser_high_bit", SYS_clone, {(1UL << 40) | CLONE_NEWUSER | SIGCHLD}},
    {"clone_newuser_newns", SYS_clone, {CLONE_NEWUSER | CLONE_NEWNS | SIGCHLD}},
    {"clone3", SYS_clone3, {0, 0}},
    {"socket_alg_high_bit", SYS_socket, {(1UL << 32) | 38, 5, 0}},
    {"io_uring_setup", SYS_io_uring_setup, {0, 0}},
    {"userfaultfd", SYS_userfaultfd, {minus_one}},
    {"keyctl", SYS_keyctl, {minus_one}},
    {"personality_ask", SYS_personality, {0xffffffff}},
    {"personality_linux", SYS_personality, {0}},
    {"personality_uname26", SYS_personality, {0x20000}},
    {"personality_no_randomize", SYS_personality, {0x40000}},
    {"personality_no_randomize_high_bit", SYS_personality, {(1UL << 32) | 0x40000}},
    {"mount", SYS_mount, {0, 0, 0, 0, 0}},
    {"umount2", SYS_umount2, {0, 0}},
    {"fsopen", SYS_fsopen, {0, 0}},
    {"open_tree", SYS_open_tree, {minus_one, 0, 0}},
    {"pivot_root", SYS_pivot_root, {0, 0}},
    {"sethostname", SYS_sethostname, {0, minus_one}},
    {"bpf", SYS_bpf, {minus_one, 0, 0}},
    {"perf_event_open", SYS_perf_event_open, {0, 0, 0, 0, minus_one}},
    {"kcmp", SYS_kcmp, {0, 0, 99, 0, 0}},
    {"init_module", SYS_init_module, {0, 0, 0}},
    {"acct", SYS_acct, {1}},
    {"chroot", SYS_chroot, {0}},
    {"reboot", SYS_reboot, {0, 0, 0, 0}},
    {"settimeofday", SYS_settimeofday, {0, 0}},
    {"clock_settime", SYS_clock_settime, {99, 0}},
    {"adjtimex", SYS_adjtimex, {0}},
    {"vhangup", SYS_vhangup, {}},
    {"syslog", SYS_syslog, {10, 0, 0}},
    {"open_by_handle_at", SYS_open_by_handle_at, {minus_one, 0, 0}},
    {"mbind", SYS_mbind, {1, 0, 0, 0, 0}},
    {"kexec_load", SYS_kexec_load, {0, minus_one, 0, minus_one}},
    {"swapon", SYS_swapon, {0, 0}},
    {"not_made_yet", 1000, {}},
#ifdef __x86_64__
    {"iopl", SYS_iopl, {99}},
    {"modify_ldt", SYS_modify_ldt, {99, 0, 0}},
#endif
};

void say(const char* name, int error) { printf("%s %d\n", name, error); }

// Runs `call` in a child process. Returns its errno, or 1000 + the signal that killed it.
template <typename Call>
int in_child(Call call) {
  fflush(stdout);
  pid_t child = fork();
  if (child < 0) return errno;
  if (child == 0) {
    setsid();
    pid_t self = static_cast<pid_t>(syscall(SYS_getpid));
    errno = 0;
    long answer = call();
    // A clone that succeeds returns twice; the second process does nothing.
    if (static_cast<pid_t>(syscall(SYS_getpid)) != self) _exit(0);
    int result = answer < 0 ? errno : 0;
    while (waitpid(-1, nullptr, __WALL) > 0) {
    }
    _exit(result);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

long try_probe(const Probe& probe) {
  const auto& a = probe.arguments;
  return syscall(probe.number, a[0], a[1], a[2], a[3], a[4]);
}

#ifdef __x86_64__
// The 32-bit entry point, which a filter sees as architecture i386.
long call_32(unsigned number, unsigned first, unsigned second) {
  long answer;
  __asm__ volatile("int $0x80" : "=a"(answer) : "a"(number), "b"(first), "c"(second) : "memory", "r8", "r9", "r10", "r11");
  int result = static_cast<int>(answer);
  if (result >= 0) return result;
  errno = -result;
  return -1;
}
#endif

bool load_filter(const char* path) {
  static sock_filter program[4096];
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t size = fd < 0 ? -1 : read(fd, program, sizeof program);
  if (size <= 0) return false;
  sock_fprog loaded = {static_cast<unsigned short>(static_cast<size_t>(size) / sizeof *program), program};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &loaded) == 0;
}

}  // namespace

int main(int count, char** arguments) {
  if (count > 1 && !load_filter(arguments[1])) {
    perror("load the filter");
    return 1;
  }
  for (const Probe& probe : probes) say(probe.name, in_child([&] { return try_probe(probe); }));
  for (unsigned long family = 0; family < 56; ++family) {
    char name[32];
    snprintf(name, sizeof name, "socket_%lu", family);
    // Type 99 does not exist: after the filter the kernel returns EINVAL before it looks up the family.
    say(name, in_child([&] { return syscall(SYS_socket, family, 99, 0); }));
  }
  say("thread", in_child([] {
        pthread_t thread;
        errno = pthread_create(&thread, nullptr, [](void* argument) { return argument; }, nullptr);
        return errno == 0 ? 0L : -1L;
      }));
#ifdef __x86_64__
  say("i386_getpid", in_child([] { return call_32(20, 0, 0); }));
  say("i386_socketcall", in_child([] { return call_32(102, 1, 0); }));
  say("i386_unshare", in_child([] { return call_32(310, CLONE_NEWUTS, 0); }));
  say("i386_clone_newuser", in_child([] { return call_32(120, CLONE_NEWUSER | SIGCHLD, 0); }));
#endif
  return 0;
}
