// keelson-monitor: the parent of every process of one pod (PROTOCOL.md).
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>

#include "monitor/server/calls.h"
#include "monitor/server/monitor_log.h"

namespace keelson {

namespace {

constexpr int readiness_fd = 3;
constexpr size_t max_sandbox_file = 1 << 20;

constexpr const char* usage =
    "usage: keelson-monitor run <pod dir>\n"
    "       keelson-monitor --help | --version\n"
    "\n"
    "Makes the sandbox that <pod dir>/sandbox.json describes and serves <pod dir>/monitor.sock.\n"
    "Descriptor 3 gets one frame when it is ready or has failed. The daemon `keelson serve` starts\n"
    "one monitor for each pod; nobody else needs to. See native/PROTOCOL.md.\n";

// Whatever the daemon had open is not ours; what the containers do is our business even
// when their parents die; memory shall come back when a burst is over.
void separate_from_daemon() {
  close_range(readiness_fd + 1, ~0U, 0);
  fcntl(readiness_fd, F_SETFD, FD_CLOEXEC);
  setsid();  // fails when we lead one already
  umask(022);
  signal(SIGPIPE, SIG_IGN);
  mallopt(M_MMAP_THRESHOLD, 64 << 10);
  mallopt(M_TRIM_THRESHOLD, 64 << 10);
}

// Lets go of the program's pages that are as in its file: code and constants.
int give_back_segments(dl_phdr_info* program, size_t, void*) {
  for (int i = 0; i < program->dlpi_phnum; ++i) {
    const auto& segment = program->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD || (segment.p_flags & PF_W) != 0) continue;
    madvise(reinterpret_cast<void*>(program->dlpi_addr + segment.p_vaddr), segment.p_memsz, MADV_DONTNEED);
  }
  return 1;  // the program itself comes first, libraries (of an instrumented build) stay
}

// Gives back what a burst of work took. Code and constants stay in the page cache and come back by
// a fault for each 64 KiB: an idle pod then costs only what it must remember.
void give_back_memory(Scratch& scratch) {
  scratch.release();
  malloc_trim(0);
  dl_iterate_phdr(give_back_segments, nullptr);
}

class Monitor {
 public:
  explicit Monitor(std::string pod_dir) : pod_dir_(std::move(pod_dir)), exits_dir_(pod_dir_ + "/exits") {}

  // Until the sandbox is up and the socket listens; a failure has undone everything.
  Status begin();
  std::string ready() const;
  Status serve() { return loop_->run(); }

 private:
  Status prepare();
  Result<SandboxSpec> read_sandbox() const;

  std::string pod_dir_;
  std::string exits_dir_;
  std::unique_ptr<Loop> loop_;
  Scratch scratch_;
  std::unique_ptr<Reaper> reaper_;
  CgroupHost cgroups_;
  Sandbox sandbox_;
  OomScore oom_score_;
  std::unique_ptr<Context> context_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<Pod> pod_;
  std::unique_ptr<Shutdown> shutdown_;
  std::unique_ptr<Calls> calls_;
};

Status Monitor::begin() {
  if (Status prepared = prepare(); !prepared) return prepared;
  auto spec = read_sandbox();
  if (!spec) return std::unexpected(spec.error());
  auto sandbox = create_sandbox(*loop_, *reaper_, std::move(*spec), pod_dir_);
  if (!sandbox) return std::unexpected(sandbox.error());
  sandbox_ = std::move(*sandbox);
  oom_score_.lower();

  context_ = std::make_unique<Context>(*loop_, *reaper_, scratch_, sandbox_, cgroups_, oom_score_);
  server_ = std::make_unique<Server>(*loop_, scratch_);
  pod_ = std::make_unique<Pod>(*context_, exits_dir_);
  shutdown_ = std::make_unique<Shutdown>(*context_, *pod_, *server_);
  calls_ = std::make_unique<Calls>(*context_, *pod_, *shutdown_);
  pod_->guard_init();
  Status listening = server_->listen(pod_dir_, [this](const std::shared_ptr<Connection>& client, const Json& request) {
    calls_->handle(client, request);
  });
  if (!listening) (void)destroy_sandbox(sandbox_);
  return listening;
}

Status Monitor::prepare() {
  auto loop = Loop::create();
  if (!loop) return std::unexpected(loop.error());
  loop_ = std::move(*loop);
  loop_->when_quiet([this] { give_back_memory(scratch_); });
  if (Status mapped = scratch_.map(); !mapped) return mapped;
  reaper_ = std::make_unique<Reaper>(*loop_);
  if (Status opened = reaper_->open(); !opened) return opened;
  if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) return fail_errno("become a subreaper");
  auto cgroups = CgroupHost::detect();
  if (!cgroups) return std::unexpected(cgroups.error());
  cgroups_ = std::move(*cgroups);
  if (mkdir(exits_dir_.c_str(), 0700) != 0 && errno != EEXIST) return fail_errno("make " + exits_dir_);
  return {};
}

Result<SandboxSpec> Monitor::read_sandbox() const {
  auto text = read_file(pod_dir_ + "/sandbox.json", max_sandbox_file);
  if (!text) return std::unexpected(text.error());
  return parse_sandbox(*text);
}

std::string Monitor::ready() const {
  JsonWriter json;
  json.begin_object().key("pid").value(static_cast<int64_t>(getpid()));
  if (sandbox_.init_pid != 0) json.key("init_pid").value(static_cast<int64_t>(sandbox_.init_pid));
  json.end_object();
  return json.take();
}

void report(FrameType type, std::string_view payload) {
  auto header = frame_header(type, payload.size());
  std::string frame(header.data(), header.size());
  frame += payload;
  // One write of less than PIPE_BUF. Nobody listening is fine: the socket tells the same.
  if (write(readiness_fd, frame.data(), frame.size()) < 0) complain("descriptor 3: " + std::string(strerror(errno)));
  close(readiness_fd);
}

int run(const std::string& pod_dir) {
  // Run as /proc/self/fd/25, ps would call it "25".
  prctl(PR_SET_NAME, "keelson-monitor", 0, 0, 0);
  separate_from_daemon();
  if (Status opened = open_complaints((pod_dir + "/monitor.log").c_str()); !opened) {
    report(FrameType::error, error_json(opened.error()));
    return 1;
  }
  Monitor monitor(pod_dir);
  if (Status begun = monitor.begin(); !begun) {
    complain(begun.error().message());
    report(FrameType::error, error_json(begun.error()));
    return 1;
  }
  report(FrameType::reply, monitor.ready());
  if (Status served = monitor.serve(); !served) {
    complain(served.error().message());
    return 1;
  }
  return 0;
}

}  // namespace

}  // namespace keelson

int main(int argc, char** argv) {
  std::string_view verb = argc > 1 ? argv[1] : "";
  if (argc == 3 && verb == "run") return keelson::run(argv[2]);
  if (argc == 2 && verb == "--help") return fputs(keelson::usage, stdout) < 0;
  if (argc == 2 && verb == "--version") return puts("keelson-monitor " KEELSON_VERSION) < 0;
  fputs(keelson::usage, stderr);
  return 2;
}
