// Tries what a compromised decoder could do: takes the confinement steps of keelson-unpack and then makes one attempt.
// Prints its errno, or 0 for success; prints nothing if the system call filter kills it.
//
// Usage: confine-test DIRECTORY (filtered|unfiltered) WHAT [PATH|NUMBER]. `unfiltered` omits the filter, in order to test
// the other measures. Used by confine.test.ts.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include <string_view>

#include "unpack/confine.h"

namespace keelson {

namespace {

struct Attempt {
  std::string_view name;
  // -1 with errno set on failure. `root` is the layer's descriptor, `word` the last command line argument.
  long (*run)(int root, const char* word);
};

long connect_to(int family, const void* address, size_t size) {
  int fd = socket(family, SOCK_STREAM, 0);
  return fd < 0 ? fd : connect(fd, static_cast<const sockaddr*>(address), static_cast<socklen_t>(size));
}

constexpr Attempt attempts[] = {
    {"nothing", [](int, const char*) -> long { return 0; }},
    {"open", [](int, const char* path) -> long { return open(path, O_RDONLY); }},
    {"write", [](int, const char* path) -> long { return open(path, O_WRONLY | O_CREAT, 0600); }},
    {"openat2",
     [](int root, const char* path) -> long {
       open_how how{};
       return syscall(SYS_openat2, root, path, &how, sizeof how);
     }},
    {"device",
     [](int root, const char*) -> long {
       if (mknodat(root, "zero", S_IFCHR | 0600, makedev(1, 5)) != 0) return -1;
       return openat(root, "zero", O_RDWR);
     }},
    {"tcp",
     [](int, const char* port) -> long {
       sockaddr_in address{};
       address.sin_family = AF_INET;
       address.sin_port = htons(static_cast<uint16_t>(atoi(port)));
       address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
       return connect_to(AF_INET, &address, sizeof address);
     }},
    {"abstract",
     [](int, const char* name) -> long {
       sockaddr_un address{};
       address.sun_family = AF_UNIX;
       size_t length = strnlen(name, sizeof address.sun_path - 1);
       memcpy(address.sun_path + 1, name, length);
       return connect_to(AF_UNIX, &address, offsetof(sockaddr_un, sun_path) + 1 + length);
     }},
    {"mount", [](int, const char*) -> long { return mount("none", "/", "tmpfs", 0, nullptr); }},
    {"open_tree", [](int, const char*) -> long { return syscall(SYS_open_tree, AT_FDCWD, "/", 0); }},
    {"fsopen", [](int, const char*) -> long { return syscall(SYS_fsopen, "proc", 0); }},
    {"chroot", [](int, const char*) -> long { return chroot("."); }},
    {"unshare", [](int, const char*) -> long { return unshare(CLONE_NEWUSER); }},
    {"setns", [](int, const char*) -> long { return setns(0, 0); }},
    {"ptrace", [](int, const char*) -> long { return ptrace(PTRACE_SEIZE, getppid(), nullptr, nullptr); }},
    {"kill", [](int, const char*) -> long { return kill(getppid(), 0); }},
    {"pidfd_open", [](int, const char*) -> long { return syscall(SYS_pidfd_open, getppid(), 0); }},
    {"process_vm_readv",
     [](int, const char*) -> long { return syscall(SYS_process_vm_readv, getppid(), nullptr, 0, nullptr, 0, 0); }},
    {"execve",
     [](int, const char*) -> long {
       char* none[] = {nullptr};
       return execve("/bin/sh", none, none);
     }},
    {"fork", [](int, const char*) -> long { return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }},
    {"clone3", [](int, const char*) -> long { return syscall(SYS_clone3, nullptr, 0); }},
    {"executable memory",
     [](int, const char*) -> long {
       void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
       return page == MAP_FAILED ? -1 : 0;
     }},
    {"executable later",
     [](int, const char*) -> long {
       void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
       return mprotect(page, 4096, PROT_READ | PROT_EXEC);
     }},
    {"bpf", [](int, const char*) -> long { return syscall(SYS_bpf, 0, nullptr, 0); }},
    {"io_uring", [](int, const char*) -> long { return syscall(SYS_io_uring_setup, 0, nullptr); }},
    {"prctl", [](int, const char*) -> long { return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); }},
    {"ioctl", [](int root, const char*) -> long { return syscall(SYS_ioctl, root, 0, 0); }},
    {"open_by_handle_at", [](int root, const char*) -> long { return syscall(SYS_open_by_handle_at, root, nullptr, 0); }},
};

Result<Fd> confine_without_filter(Fd directory) {
  Fd root = TRY(enter_box(std::move(directory)));
  TRY(drop_privileges());
  return root;
}

int run(const char* directory, std::string_view mode, std::string_view what, const char* word) {
  if (!leave_namespaces()) return 2;
  Fd layer(open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!layer) return 2;
  Result<Fd> root = mode == "filtered" ? confine(std::move(layer)) : confine_without_filter(std::move(layer));
  if (!root) return 2;
  for (const Attempt& attempt : attempts) {
    if (attempt.name != what) continue;
    errno = 0;
    int reason = attempt.run(root->get(), word) < 0 ? errno : 0;
    dprintf(STDOUT_FILENO, "%d\n", reason);
    return 0;
  }
  return 2;
}

}  // namespace

}  // namespace keelson

int main(int count, char** words) {
  if (count < 4) return 2;
  _exit(keelson::run(words[1], words[2], words[3], count > 4 ? words[4] : ""));
}
