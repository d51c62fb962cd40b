// keelson-monitor: the parent of every process of one pod (PROTOCOL.md).
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <span>

#include "common/file.h"
#include "monitor/fork_server.h"
#include "monitor/server/calls.h"
#include "monitor/server/monitor_log.h"

namespace keelson {

namespace {

// The readiness pipe, or the socket that fork requests arrive on.
constexpr int channel_fd = 3;
constexpr int empty_mounts_fd = 4;
constexpr size_t max_sandbox_file = 1 << 20;

constexpr const char* usage =
    "usage: keelson-monitor run <pod dir>\n"
    "       keelson-monitor fork <room>\n"
    "       keelson-monitor --help | --version\n"
    "\n"
    "run creates the sandbox described by <pod dir>/sandbox.json and serves <pod dir>/monitor.sock.\n"
    "It writes a frame to descriptor 3 when it is ready or has failed; descriptor 4 may be the mount\n"
    "namespace that containers start from. fork does the same for each pod requested on the socket at\n"
    "descriptor 3, in one process per pod; <room> is any string one character shorter than <pod dir>.\n"
    "The daemon `keelson serve` forks a monitor for each pod; there is no need to run this by hand.\n"
    "See native/PROTOCOL.md.\n";

// Writes the readiness frames until the sandbox is ready or has failed, then closes the pipe.
class Readiness {
 public:
  explicit Readiness(Fd pipe) : pipe_(std::move(pipe)) {}

  // False if the reader no longer exists.
  bool forked() {
    JsonWriter json;
    json.begin_object().key("type").value("forked").key("pid").value(getpid()).end_object();
    return write_frame(FrameType::event, json.text());
  }
  void network_made() { write_frame(FrameType::event, R"({"type":"network"})"); }
  void ready(const Sandbox& sandbox) {
    JsonWriter json;
    json.begin_object().key("pid").value(getpid());
    if (sandbox.init_pid != 0) json.key("init_pid").value(sandbox.init_pid);
    json.end_object();
    write_last(FrameType::reply, json.text());
  }
  void failed(const Error& error) { write_last(FrameType::error, error_json(error)); }

 private:
  bool write_frame(FrameType type, std::string_view payload) {
    if (!pipe_) return false;
    const std::string frame = whole_frame(type, payload);
    // One write of less than PIPE_BUF. A missing reader is fine once the monitor is up: its socket reports the same.
    if (write(pipe_.get(), frame.data(), frame.size()) >= 0) return true;
    warn("readiness: " + std::string(strerror(errno)));
    return false;
  }
  void write_last(FrameType type, std::string_view payload) {
    write_frame(type, payload);
    pipe_.reset();
  }

  Fd pipe_;
};

// Closes the descriptors inherited from the daemon and starts a session, so that a signal to the daemon's process group
// does not reach the monitor. Returns descriptor 3.
Fd separate_from_daemon() {
  close_range(empty_mounts_fd + 1, ~0U, 0);
  fcntl(channel_fd, F_SETFD, FD_CLOEXEC);
  setsid();  // fails if this process already leads a session
  umask(022);
  // Two signals are ignored (children reset them in leave_monitor), so that write() fails instead when the reader has
  // closed its end or a log has reached the RLIMIT_FSIZE inherited from the daemon.
  for (int number = 1; number < NSIG; ++number) signal(number, SIG_DFL);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
  return Fd(channel_fd);
}

// Raises the soft limit to the hard one: systemd's default soft limit is 0, but a crash in a container must leave a
// core where the kernel's core_pattern sends it. The daemon, which holds credentials, keeps its own limit.
void allow_cores() {
  rlimit cores;
  if (getrlimit(RLIMIT_CORE, &cores) != 0) return;
  cores.rlim_cur = cores.rlim_max;
  setrlimit(RLIMIT_CORE, &cores);
}

// No Fd if descriptor 4 is closed or not a mount namespace, or if the monitor may not enter it (setns(2)).
Fd take_empty_mounts() {
  Fd space(empty_mounts_fd);
  if (ioctl(space.get(), NS_GET_NSTYPE) != CLONE_NEWNS) return Fd();
  if (prctl(PR_CAPBSET_READ, CAP_SYS_CHROOT, 0, 0, 0) != 1) return Fd();
  fcntl(space.get(), F_SETFD, FD_CLOEXEC);
  return space;
}

Result<SandboxSpec> read_sandbox(const std::string& pod_dir) {
  const std::string text = TRY(read_file(pod_dir + "/sandbox.json", max_sandbox_file));
  return parse_sandbox(text);
}

// Sets up the monitor and serves until `shutdown`. A failure before the socket listens undoes everything.
Status run(const std::string& pod_dir, const Fd& empty_mounts, Readiness& readiness) {
  const std::string exits_dir = pod_dir + "/exits";
  TRY(open_monitor_log((pod_dir + "/monitor.log").c_str()));
  if (mkdir(exits_dir.c_str(), 0700) != 0 && errno != EEXIST) return fail_errno("create " + exits_dir);
  // Orphaned processes of the containers are reparented to the monitor.
  if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) return fail_errno("become a subreaper");

  limit_kept_memory();
  const std::unique_ptr<Loop> loop = TRY(Loop::create());
  loop->when_quiet([&loop] { release_memory(loop->buffers()); });
  const std::unique_ptr<LogThread> log_thread = TRY(LogThread::create(*loop));
  Reaper reaper(*loop);
  TRY(reaper.open());
  SandboxSpec spec = TRY(read_sandbox(pod_dir));
  const CgroupHost cgroups = std::move(spec.hierarchies);
  Sandbox sandbox = TRY(create_sandbox(*loop, reaper, cgroups, std::move(spec), pod_dir,
                                       [&readiness] { readiness.network_made(); }));
  OomScore oom_score;
  oom_score.lower();

  Context context{*loop, reaper, *log_thread, sandbox, cgroups, oom_score, empty_mounts};
  Server server(*loop);
  Pod pod(context, exits_dir);
  Shutdown shutdown(context, pod, server);
  Calls calls({context, pod, shutdown});
  pod.guard_init();
  Status listening = server.listen(pod_dir, [&calls](const std::shared_ptr<Connection>& client, const Json& request) {
    calls.handle(client, request);
  });
  if (!listening) {
    abandon_sandbox(sandbox, cgroups);
    return listening;
  }
  readiness.ready(sandbox);
  Status ended = loop->run();
  // A thread that hangs in the kernel still uses the objects that would be destroyed now, so skip that. The process then
  // exits when the thread leaves the kernel.
  if (!log_thread->stop()) _exit(ended ? 0 : 1);
  return ended;
}

int run_or_report(const std::string& pod_dir, const Fd& empty_mounts, Readiness readiness) {
  allow_cores();
  Status ended = run(pod_dir, empty_mounts, readiness);
  if (ended) return 0;
  warn(ended.error().message());
  readiness.failed(ended.error());
  return 1;
}

int run_alone(const std::string& pod_dir) {
  Readiness readiness(separate_from_daemon());
  return run_or_report(pod_dir, take_empty_mounts(), std::move(readiness));
}

int run_forks(std::span<char*> words) {
  Fd socket = separate_from_daemon();
  const Fd empty_mounts = take_empty_mounts();
  auto run = [&empty_mounts](ForkRequest request) {
    setsid();
    Readiness readiness(std::move(request.readiness));
    if (!readiness.forked()) return 1;
    return run_or_report(request.pod_dir, empty_mounts, std::move(readiness));
  };
  auto failed = [](ForkRequest request, const Error& error) { Readiness(std::move(request.readiness)).failed(error); };
  return serve_forks(std::move(socket), words, run, failed);
}

}  // namespace

}  // namespace keelson

int main(int argc, char** argv) {
  std::string_view verb = argc > 1 ? argv[1] : "";
  // When executed as /proc/self/fd/25, ps would show it as "25".
  prctl(PR_SET_NAME, "keelson-monitor", 0, 0, 0);
  if (argc == 3 && verb == "run") return keelson::run_alone(argv[2]);
  if (argc == 3 && verb == "fork") return keelson::run_forks({argv, 3});
  if (argc == 2 && verb == "--help") return fputs(keelson::usage, stdout) < 0;
  if (argc == 2 && verb == "--version") return puts("keelson-monitor " KEELSON_VERSION) < 0;
  fputs(keelson::usage, stderr);
  return 2;
}
