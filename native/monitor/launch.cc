// clone3, the wait for execve, and the clean-up when it does not come.
#include "launch.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "../common/fd.h"

namespace keelson {

namespace {

constexpr int start_limit_ms = 10'000;
constexpr int reap_limit_ms = 2'000;

int64_t now_ms() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

// A word that the kernel fills with the new process's id before that process runs
// (CLONE_PARENT_SETTID), shared so that the monitor reads what a helper bore.
class SharedPid {
 public:
  SharedPid() {
    void* page = mmap(nullptr, sizeof(pid_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page != MAP_FAILED) word_ = static_cast<pid_t*>(page);
  }
  SharedPid(const SharedPid&) = delete;
  SharedPid& operator=(const SharedPid&) = delete;
  ~SharedPid() {
    if (word_ != nullptr) munmap(word_, sizeof(pid_t));
  }
  bool mapped() const { return word_ != nullptr; }
  pid_t* address() const { return word_; }
  pid_t value() const { return *static_cast<volatile pid_t*>(word_); }

 private:
  pid_t* word_ = nullptr;
};

long clone3(const clone_args& args) { return syscall(SYS_clone3, &args, sizeof args); }

clone_args process_args(const LaunchOptions& options, const SharedPid& pid) {
  clone_args args = {};
  args.flags = options.new_namespaces | CLONE_PARENT_SETTID;
  args.parent_tid = reinterpret_cast<uint64_t>(pid.address());
  args.exit_signal = SIGCHLD;
  return args;
}

void enter_cgroup(clone_args& args, int cgroup_fd) {
  if (cgroup_fd < 0) return;
  args.flags |= CLONE_INTO_CGROUP;
  args.cgroup = static_cast<uint64_t>(cgroup_fd);
}

struct Outcome {
  bool ready = false;
  Fd terminal;
};

Fd descriptor_of(msghdr& header) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    int fd = -1;
    memcpy(&fd, CMSG_DATA(part), sizeof fd);
    return Fd(fd);
  }
  return {};
}

// Reads messages until the socket ends, which is execve (or death).
Result<Outcome> await_execve(int socket) {
  const int64_t deadline = now_ms() + start_limit_ms;
  Outcome outcome;
  for (;;) {
    pollfd readable = {socket, POLLIN, 0};
    int64_t left = deadline - now_ms();
    int events = left > 0 ? poll(&readable, 1, static_cast<int>(left)) : 0;
    if (events < 0 && errno == EINTR) continue;
    if (events < 0) return fail_errno("wait for the process to start");
    if (events == 0) return fail(Kind::timeout, "start the process", "its set-up took more than 10 s");

    ChildMessage message;
    iovec content = {&message, sizeof message};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    msghdr header = {};
    header.msg_iov = &content;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    ssize_t size = recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return fail_errno("read what the process reports");
    if (size == 0) return outcome;
    if (message.kind == ChildMessage::Kind::failed) return std::unexpected(to_error(message));
    if (message.kind == ChildMessage::Kind::ready) outcome.ready = true;
    if (message.kind == ChildMessage::Kind::terminal) outcome.terminal = descriptor_of(header);
  }
}

// How a child ended that said nothing: a signal, most likely the OOM killer's.
Error silent_death(pid_t pid) {
  Error error{Kind::system, "start the process", {}, 0, "it ended before its execve"};
  siginfo_t info = {};
  if (pid > 0 && waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
      info.si_code == CLD_KILLED) {
    error.detail += ", killed by signal " + std::to_string(info.si_status);
    if (info.si_status == SIGKILL) error.detail += " (is the memory limit too low?)";
  }
  return error;
}

}  // namespace

void kill_and_reap(pid_t pid) {
  kill(pid, SIGKILL);
  Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  pollfd ended = {pidfd.get(), POLLIN, 0};
  if (pidfd) poll(&ended, 1, reap_limit_ms);
  waitid(P_PID, static_cast<id_t>(pid), nullptr, WEXITED | WNOHANG);
}

Result<Started> launch(ChildProgram& program, const LaunchOptions& options) {
  SharedPid born;
  if (!born.mapped()) return fail_errno("map a page for the process's id");
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return fail_errno("make the report socket");
  Fd ours(ends[0]), theirs(ends[1]);

  clone_args first = {};
  if (options.by_helper) first.exit_signal = SIGCHLD;
  else first = process_args(options, born);
  enter_cgroup(first, options.cgroup_fd);

  long pid = clone3(first);
  if (pid < 0) return fail_errno("clone the process");
  if (pid == 0) {
    const Child child(theirs.get());
    program.enter(child);
    if (options.by_helper) {
      clone_args second = process_args(options, born);
      second.flags |= CLONE_PARENT;
      second.exit_signal = 0;  // CLONE_PARENT takes the helper's own
      long process = clone3(second);
      if (process < 0) child.die(Step::bear_process);
      if (process > 0) _exit(0);
    }
    program.run(child);
  }
  theirs.reset();

  Result<Outcome> outcome = await_execve(ours.get());
  const pid_t process = born.value();
  Error error;
  if (outcome && outcome->ready && process > 0) {
    Started started;
    started.pid = process;
    started.terminal = std::move(outcome->terminal);
    started.pidfd = Fd(static_cast<int>(syscall(SYS_pidfd_open, process, 0)));
    if (started.pidfd) {
      if (options.by_helper) kill_and_reap(static_cast<pid_t>(pid));
      return started;
    }
    error = fail_errno("open a pidfd of the process").error();
  } else {
    error = outcome ? silent_death(process) : outcome.error();
  }
  if (options.by_helper) kill_and_reap(static_cast<pid_t>(pid));
  if (process > 0) kill_and_reap(process);
  return std::unexpected(std::move(error));
}

}  // namespace keelson
