// Sources: cgroup-v2.rst (memory.events), kernel: fs/kernfs/file.c (kernfs_generic_poll), cgroup-v1/memory.rst ("OOM
// Control"), proc_pid_oom_score_adj(5).
#include "monitor/cgroup/oom.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <charconv>

#include "common/file.h"
#include "monitor/cgroup/cgroupfs.h"
#include "monitor/server/monitor_log.h"

namespace keelson {

namespace {

using namespace std::chrono_literals;

// cgroup v1 tells of the shortage before it counts the kill: look again after 10, 20, 40, 80 and 160 ms.
constexpr int looks = 5;

constexpr const char* score_file = "/proc/self/oom_score_adj";
constexpr const char* lowered = "-999";

std::string memory_directory(const Cgroup& cgroup) {
  const CgroupHost& host = cgroup.host();
  return (host.unified() ? host.v2_root() : host.v1_root("memory")) + cgroup.path();
}

// On v1 an eventfd is tied to memory.oom_control.
Result<Fd> open_v1_events(const std::string& directory) {
  Fd event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return fail_errno("make an eventfd");
  const Fd control = TRY(open_file(directory + "/memory.oom_control", O_RDONLY));
  TRY(write_cgroup_file(directory + "/cgroup.event_control",
                        std::to_string(event.get()) + " " + std::to_string(control.get())));
  return event;
}

// On v2 memory.events has priority data for poll(2) once it has changed since it was last read. inotify(7) tells of that
// too, but of its instances root has 128 by default, for all programs of the node.
Result<Fd> open_v2_events(const std::string& directory) { return open_file(directory + "/memory.events", O_RDONLY); }

// The kernel's count of OOM kills: the number behind "oom_kill" in a file of "key number" lines.
uint64_t count_kills(const Cgroup& cgroup) {
  const char* name = cgroup.host().unified() ? "/memory.events" : "/memory.oom_control";
  const Result<std::string> text = read_cgroup_file(memory_directory(cgroup) + name);
  if (!text) return 0;
  // With its blank: "oom_kill_disable" stands above "oom_kill" in v1's memory.oom_control.
  constexpr std::string_view key = "\noom_kill ";
  const std::string lines = "\n" + *text;
  const size_t at = lines.find(key);
  uint64_t kills = 0;
  if (at != lines.npos) std::from_chars(lines.data() + at + key.size(), lines.data() + lines.size(), kills);
  return kills;
}

bool write_score(const std::string& score) {
  Fd file(open(score_file, O_WRONLY | O_CLOEXEC));
  return file && write(file.get(), score.data(), score.size()) == static_cast<ssize_t>(score.size());
}

}  // namespace

Status OomWatch::open() {
  const std::string directory = memory_directory(cgroup_);
  const bool unified = cgroup_.host().unified();
  events_ = TRY(unified ? open_v2_events(directory) : open_v1_events(directory));
  if (unified && !take_event()) return fail_errno("read memory.events of " + directory);
  watch_ = TRY(loop_.watch(events_.get(), unified ? EPOLLPRI : EPOLLIN, [this](uint32_t) { on_event(); }));
  return {};
}

// Until the next one it is quiet. Of what is read, an eventfd's counter or memory.events, only the wake-up matters.
bool OomWatch::take_event() {
  char content[4096];
  lseek(events_.get(), 0, SEEK_SET);  // an eventfd stays where it is
  return read(events_.get(), content, sizeof content) > 0 || errno == EAGAIN || errno == EINTR;
}

bool OomWatch::check() {
  const uint64_t kills = count_kills(cgroup_);
  if (kills <= known_kills_) return false;
  known_kills_ = kills;
  killed_ = true;
  on_kill_();
  return true;
}

void OomWatch::on_event() {
  if (!take_event()) return watch_.stop();
  if (check()) return;
  looks_left_ = looks;
  look_again();
}

void OomWatch::look_again() {
  if (looks_left_ == 0) return;
  again_ = loop_.after(10ms * (1 << (looks - looks_left_)), [this] {
    --looks_left_;
    if (!check()) look_again();
  });
}

void OomScore::lower() {
  const Result<std::string> score = read_file(score_file, 16);
  if (score && write_score(lowered)) original_ = *score;
}

OomScore::Original::Original(const OomScore& score) : score_(score) {
  if (!score_.original_.empty() && !write_score(score_.original_)) warn("raise oom_score_adj for a child: failed");
}

OomScore::Original::~Original() {
  if (!score_.original_.empty() && !write_score(lowered)) warn("lower oom_score_adj again: failed");
}

}  // namespace keelson
