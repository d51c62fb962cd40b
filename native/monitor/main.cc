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

// A pipe for the readiness, or the socket at which forks are asked for.
constexpr int channel_fd = 3;
constexpr int empty_mounts_fd = 4;
constexpr size_t max_sandbox_file = 1 << 20;

constexpr const char* usage =
    "usage: keelson-monitor run <pod dir>\n"
    "       keelson-monitor fork <room>\n"
    "       keelson-monitor --help | --version\n"
    "\n"
    "run makes the sandbox that <pod dir>/sandbox.json describes and serves <pod dir>/monitor.sock.\n"
    "Descriptor 3 gets a frame when it is ready or has failed; 4 may be the mount namespace that\n"
    "containers begin with. fork does so for each pod that it is asked for at the socket that is its\n"
    "descriptor 3, in a process of its own; <room> is anything, one character shorter than <pod dir>.\n"
    "The daemon `keelson serve` has a monitor forked for each pod; nobody else needs to.\n"
    "See native/PROTOCOL.md.\n";

// Frames until the sandbox is ready or has failed, and their end.
class Readiness {
 public:
  explicit Readiness(Fd pipe) : pipe_(std::move(pipe)) {}

  // False when nobody waits for it any more.
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
    // One write of less than PIPE_BUF. Nobody listening is fine once the monitor is there: the socket tells the same.
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

// Whatever the daemon had open is not ours, and what it is told to end does not end us. Returns descriptor 3.
Fd separate_from_daemon() {
  close_range(empty_mounts_fd + 1, ~0U, 0);
  fcntl(channel_fd, F_SETFD, FD_CLOEXEC);
  setsid();  // fails when we lead one already
  umask(022);
  // Of all signals two are ignored, and children take that back (leave_monitor): a reader that has gone and a log as large
  // as the daemon's RLIMIT_FSIZE lets files be are errors of a write.
  for (int number = 1; number < NSIG; ++number) signal(number, SIG_DFL);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
  return Fd(channel_fd);
}

// As far as the hard limit goes: systemd's soft one is 0, and what crashes in a container is to leave a core where the kernel's
// core_pattern sends it. The daemon, which holds credentials, keeps its own.
void allow_cores() {
  rlimit cores;
  if (getrlimit(RLIMIT_CORE, &cores) != 0) return;
  cores.rlim_cur = cores.rlim_max;
  setrlimit(RLIMIT_CORE, &cores);
}

// None when descriptor 4 is something else, or nothing, or there is no right to enter it (setns(2)).
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

// The monitor, from the bottom up. Until the socket listens a failure undoes everything; then it serves until
// `shutdown`.
Status run(const std::string& pod_dir, const Fd& empty_mounts, Readiness& readiness) {
  const std::string exits_dir = pod_dir + "/exits";
  TRY(open_monitor_log((pod_dir + "/monitor.log").c_str()));
  if (mkdir(exits_dir.c_str(), 0700) != 0 && errno != EEXIST) return fail_errno("make " + exits_dir);
  // What the containers do is our business even when their parents die.
  if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) return fail_errno("become a subreaper");

  limit_kept_memory();
  const std::unique_ptr<Loop> loop = TRY(Loop::create());
  const std::unique_ptr<LogWriter> log_writer = TRY(LogWriter::create(*loop));
  loop->when_quiet([&loop, &log_writer] {
    log_writer->rest();
    give_back_memory(loop->buffer());
  });
  Reaper reaper(*loop);
  TRY(reaper.open());
  SandboxSpec spec = TRY(read_sandbox(pod_dir));
  const CgroupHost cgroups = std::move(spec.hierarchies);
  Sandbox sandbox = TRY(create_sandbox(*loop, reaper, cgroups, std::move(spec), pod_dir,
                                       [&readiness] { readiness.network_made(); }));
  OomScore oom_score;
  oom_score.lower();

  Context context{*loop, reaper, *log_writer, sandbox, cgroups, oom_score, empty_mounts};
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
  return loop->run();
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
  // Run as /proc/self/fd/25, ps would call it "25".
  prctl(PR_SET_NAME, "keelson-monitor", 0, 0, 0);
  if (argc == 3 && verb == "run") return keelson::run_alone(argv[2]);
  if (argc == 3 && verb == "fork") return keelson::run_forks({argv, 3});
  if (argc == 2 && verb == "--help") return fputs(keelson::usage, stdout) < 0;
  if (argc == 2 && verb == "--version") return puts("keelson-monitor " KEELSON_VERSION) < 0;
  fputs(keelson::usage, stderr);
  return 2;
}
