// clone3, waiting for execve as events of the loop, and cleanup if the start fails.
#include "monitor/setup/spawn.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <charconv>
#include <csignal>
#include <cstring>
#include <vector>

#include "common/file.h"

namespace keelson {

namespace {

using namespace std::chrono_literals;

// How long a failed start waits for the processes that it has killed; a process can hang in the kernel.
constexpr auto reap_limit = 2s;

// Memory shared between the monitor and its child. The process's id is on a separate page that a process visible to
// others does not inherit, so that it cannot be forged.
class SharedPages {
 public:
  SharedPages() {
    void* pages = mmap(nullptr, 2 * page_size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (pages != MAP_FAILED) base_ = static_cast<char*>(pages);
  }
  SharedPages(const SharedPages&) = delete;
  SharedPages& operator=(const SharedPages&) = delete;
  ~SharedPages() {
    if (base_ != nullptr) munmap(base_, 2 * page_size());
  }

  bool mapped() const { return base_ != nullptr; }
  pid_t* pid() const { return reinterpret_cast<pid_t*>(base_); }
  Report* report() const { return reinterpret_cast<Report*>(base_ + page_size()); }

 private:
  static size_t page_size() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

  char* base_ = nullptr;
};

long clone3(const clone_args& args) { return syscall(SYS_clone3, &args, sizeof args); }

// Uses the alternative cgroup if the first one takes no processes.
long clone_into_cgroup(clone_args args, const SpawnOptions& options) {
  const long pid = clone3(args);
  if (pid >= 0 || errno != EBUSY || !options.cgroup_instead) return pid;
  const Fd instead = options.cgroup_instead();
  args.cgroup = static_cast<uint64_t>(instead.get());
  if (instead) return clone3(args);
  errno = EBUSY;
  return -1;
}

// The kernel writes the process's id to `pid` before it runs.
clone_args process_args(uint64_t namespaces, pid_t* pid) {
  clone_args args = {};
  args.flags = namespaces | CLONE_PARENT_SETTID;
  args.parent_tid = reinterpret_cast<uint64_t>(pid);
  return args;
}

[[noreturn]] void be_child(Procedure& procedure, const SpawnOptions& options, SharedPages& pages, int socket) {
  const Child child(*pages.report(), socket);
  procedure.enter(child);
  if (options.way == SpawnWay::helper_then_new_namespaces) {
    clone_args args = process_args(options.new_namespaces, pages.pid());
    args.flags |= CLONE_PARENT;  // and the exit signal is the helper's own
    if (child.check(clone3(args), Step::spawn_process) > 0) _exit(0);
  }
  procedure.set_up(child);
  const LastSteps* last = procedure.last_steps();
  if (options.way == SpawnWay::helper_then_shared_namespace) last->spawn(child, pages.pid());
  last->take(child);
}

constexpr size_t max_family = 4096;
constexpr size_t max_list = 64 << 20;  // more than a list of all possible process ids

void append_pids(const std::string& path, std::vector<pid_t>& pids) {
  const Result<std::string> list = read_file(path, max_list);
  if (!list) return;
  const std::string& text = *list;
  const char* at = text.data();
  const char* end = at + text.size();
  while (at < end && pids.size() < max_family) {
    pid_t pid = 0;
    auto [rest, code] = std::from_chars(at, end, pid);
    if (code != std::errc()) return;
    pids.push_back(pid);
    at = rest + 1;  // each is followed by a space
  }
}

void append_children(pid_t parent, std::vector<pid_t>& pids) {
  std::string tasks = "/proc/" + std::to_string(parent) + "/task";
  DIR* directory = opendir(tasks.c_str());
  if (directory == nullptr) return;
  while (const dirent* entry = readdir(directory)) {
    if (entry->d_name[0] != '.') append_pids(tasks + "/" + entry->d_name + "/children", pids);
  }
  closedir(directory);
}

}  // namespace

class Spawn final : public Attempt, public std::enable_shared_from_this<Spawn> {
 public:
  Spawn(Loop& loop, Reaper& reaper, SpawnOptions options, Done<Started> done)
      : loop_(loop), reaper_(reaper), options_(std::move(options)), done_(std::move(done)) {}

  void begin(Procedure& procedure) {
    if (Status begun = clone_child(procedure); !begun) {
      loop_.defer([done = std::move(done_), error = std::move(begun.error())]() mutable {
        done(std::unexpected(std::move(error)));
      });
    }
  }

  void abort(Error why) override {
    if (!done_ || failure_) return;
    failure_ = std::move(why);
    deadline_ = loop_.after(reap_limit, [self = shared_from_this()] { self->give_up(); });
    kill_all();
    settle_when_dead();
  }

 private:
  Status clone_child(Procedure& procedure);
  Status watch();
  void receive();
  void conclude();
  void succeed();
  void kill_all() const;
  void settle_when_dead();
  void give_up();
  Error silent_death() const;
  // Whether end of file on the socket means execve or death. Not in a shared PID namespace, where the helper closes
  // everything earlier.
  bool ends_with_socket() const { return options_.way != SpawnWay::helper_then_shared_namespace; }
  bool is_helped() const { return options_.way != SpawnWay::direct; }
  pid_t process() const { return *static_cast<volatile pid_t*>(pages_.pid()); }
  bool has_executed() const;

  Loop& loop_;
  Reaper& reaper_;
  SpawnOptions options_;
  Done<Started> done_;
  SharedPages pages_;
  Fd socket_;
  Loop::Watch watch_;
  Loop::Timer deadline_;
  Fd first_pidfd_;  // of the child that was cloned here: the helper, or the process itself
  std::optional<ProcessExit> helper_exit_;
  std::optional<ProcessExit> process_exit_;
  std::optional<Reaper::FutureChild> future_child_;
  Fd sent_;  // the descriptor sent by the child
  std::optional<Error> failure_;  // set: everything has been killed and is being reaped
};

Status Spawn::clone_child(Procedure& procedure) {
  if (!pages_.mapped()) return fail_errno("map shared memory for the start");
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return fail_errno("create the report socket");
  socket_ = Fd(ends[0]);
  Fd theirs(ends[1]);
  strncpy(pages_.report()->object, options_.command.c_str(), sizeof pages_.report()->object - 1);
  future_child_.emplace(reaper_, *pages_.pid(), [self = shared_from_this()](const ProcessExit& exit) {
    self->process_exit_ = exit;
    self->settle_when_dead();
  });

  int pidfd = -1;
  clone_args args = is_helped() ? clone_args{} : process_args(options_.new_namespaces, pages_.pid());
  args.flags |= CLONE_PIDFD;
  args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  args.exit_signal = child_exit_signal;
  if (options_.cgroup_fd >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<uint64_t>(options_.cgroup_fd);
  }
  const long pid = clone_into_cgroup(args, options_);
  if (pid == 0) be_child(procedure, options_, pages_, theirs.get());
  if (pid < 0) {
    const int error = errno;
    future_child_.reset();
    return fail_errno("clone the process", error);
  }
  first_pidfd_ = Fd(pidfd);
  theirs.reset();
  if (is_helped()) {
    reaper_.expect(static_cast<pid_t>(pid), [self = shared_from_this()](const ProcessExit& exit) {
      self->helper_exit_ = exit;
      if (!self->ends_with_socket() && self->done_ && !self->failure_) return self->conclude();
      self->settle_when_dead();
    });
  }
  deadline_ = loop_.after(options_.limit, [self = shared_from_this()] {
    self->abort({Kind::timeout, "start the process", {}, 0,
                 "its setup took more than " + std::to_string(self->options_.limit / 1s) + " s"});
  });
  if (Status watched = watch(); !watched) abort(watched.error());
  return {};
}

Status Spawn::watch() {
  if (!ends_with_socket()) return {};
  watch_ = TRY(loop_.watch(socket_.get(), EPOLLIN, [self = shared_from_this()](uint32_t) { self->receive(); }));
  return {};
}

// Receives at most one descriptor. End of file on the socket means execve or death.
void Spawn::receive() {
  for (;;) {
    ssize_t size = 0;
    Fd received = receive_descriptor(socket_.get(), size);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) {
      watch_.stop();
      if (ends_with_socket() && done_ && !failure_) conclude();
      return;
    }
    if (!sent_) sent_ = std::move(received);
  }
}

// Whether the process has executed its command: then its exit signal is SIGCHLD, and waitid finds it without __WCLONE.
bool Spawn::has_executed() const {
  if (process() <= 0) return false;
  if (process_exit_) return process_exit_->executed;
  siginfo_t info = {};
  return waitid(P_PID, static_cast<id_t>(process()), &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

void Spawn::conclude() {
  if (auto failure = failure_in(*pages_.report())) return abort(std::move(*failure));
  if (!has_executed() && !is_settled(*pages_.report())) return abort(Error{});  // silent_death() reports how it died
  succeed();
}

void Spawn::succeed() {
  if (!ends_with_socket()) receive();
  Started started;
  started.pid = process();
  if (!process_exit_) started.pidfd = open_pidfd(started.pid);
  if (!started.pidfd && !process_exit_) return abort(fail_errno("open a pidfd of the process").error());
  started.sent = std::move(sent_);
  deadline_.cancel();
  watch_.stop();
  if (process_exit_) reaper_.remember(started.pid, *process_exit_);
  Done<Started> done = std::exchange(done_, nullptr);
  done(std::move(started));
  reaper_.forget(process());
  future_child_.reset();
}

// The helper's pidfd cannot be reused, nor the process's id, because the process has not been reaped.
void Spawn::kill_all() const {
  if (first_pidfd_) syscall(SYS_pidfd_send_signal, first_pidfd_.get(), SIGKILL, nullptr, 0);
  if (process() > 0 && !process_exit_) kill(process(), SIGKILL);
}

void Spawn::settle_when_dead() {
  if (!failure_) return;
  if (is_helped() && !helper_exit_) return;
  // The helper may have cloned the process while being killed.
  if (process() > 0 && !process_exit_) return kill_all();
  deadline_.cancel();
  watch_.stop();
  give_up();
  // The caller may be the handler of future_child_.
  loop_.defer([self = shared_from_this()] { self->future_child_.reset(); });
}

// A process that still hangs is reaped once it leaves the kernel and dies.
void Spawn::give_up() {
  if (Done<Started> done = std::exchange(done_, nullptr)) {
    done(std::unexpected(failure_->step.empty() ? silent_death() : *failure_));
  }
}

// The error for a child that died without a report: by a signal, most likely from the OOM killer or the filter.
Error Spawn::silent_death() const {
  Error error{Kind::system, "start the process", {}, 0, "it exited before its execve"};
  const ProcessExit& exit = process_exit_ ? *process_exit_ : helper_exit_.value_or(ProcessExit{});
  if (exit.signal == 0) return error;
  error.detail += ", killed by signal " + std::to_string(exit.signal);
  if (exit.signal == SIGKILL) error.detail += " (is the memory limit too low?)";
  if (exit.signal == SIGSYS) error.detail += " (its seccomp profile kills it for a system call that the start needs)";
  return error;
}

std::shared_ptr<Attempt> spawn(Loop& loop, Reaper& reaper, Procedure& procedure, SpawnOptions options,
                                Done<Started> done) {
  auto attempt = std::make_shared<Spawn>(loop, reaper, std::move(options), std::move(done));
  attempt->begin(procedure);
  return attempt;
}

Result<Started> spawn_and_wait(Loop& loop, Reaper& reaper, Procedure& procedure, SpawnOptions options) {
  Result<Started> result = std::unexpected(Error{});
  spawn(loop, reaper, procedure, std::move(options), [&](Result<Started> started) {
    result = std::move(started);
    loop.stop();
  });
  TRY(loop.run());
  return result;
}

void kill_with_descendants(pid_t leader) {
  // Stop the leader's process group first, so that it cannot start processes during the search. Children are found
  // before their parents die, because orphans are reparented.
  kill(-leader, SIGSTOP);
  std::vector<pid_t> family{leader};
  for (size_t i = 0; i < family.size(); ++i) append_children(family[i], family);
  kill(-leader, SIGKILL);
  for (pid_t pid : family) kill(pid, SIGKILL);
}

}  // namespace keelson
