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

// cgroup v1 notifies before it counts the kill: check again after 10, 20, 40, 80 and 160 ms.
constexpr int max_checks = 5;

constexpr const char* score_file = "/proc/self/oom_score_adj";
constexpr const char* lowered = "-999";

std::string memory_directory(const Cgroup& cgroup) {
  const CgroupHost& host = cgroup.host();
  return (host.unified() ? host.v2_root() : host.v1_root("memory")) + cgroup.path();
}

// On v1 an eventfd is tied to memory.oom_control.
Result<Fd> open_v1_events(const std::string& directory) {
  Fd event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return fail_errno("create an eventfd");
  const Fd control = TRY(open_file(directory + "/memory.oom_control", O_RDONLY));
  TRY(write_cgroup_file(directory + "/cgroup.event_control",
                        std::to_string(event.get()) + " " + std::to_string(control.get())));
  return event;
}

// On v2 poll(2) reports priority data on memory.events when it has changed since it was last read. inotify(7) reports
// that too, but root has only 128 instances by default, shared by all programs of the node.
Result<Fd> open_v2_events(const std::string& directory) { return open_file(directory + "/memory.events", O_RDONLY); }

// The kernel's count of OOM kills: the number after "oom_kill" in a file of "key number" lines.
uint64_t count_kills(const Cgroup& cgroup) {
  const char* name = cgroup.host().unified() ? "/memory.events" : "/memory.oom_control";
  const Result<std::string> text = read_cgroup_file(memory_directory(cgroup) + name);
  if (!text) return 0;
  // With the space: v1's memory.oom_control has "oom_kill_disable" before "oom_kill".
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

// Reads the eventfd's counter or memory.events, only to clear the pending event; the content does not matter.
bool OomWatch::take_event() {
  char content[4096];
  lseek(events_.get(), 0, SEEK_SET);  // no effect on an eventfd
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
  checks_left_ = max_checks;
  check_again();
}

void OomWatch::check_again() {
  if (checks_left_ == 0) return;
  again_ = loop_.after(10ms * (1 << (max_checks - checks_left_)), [this] {
    --checks_left_;
    if (!check()) check_again();
  });
}

bool has_oom_kill(const Cgroup& cgroup) { return count_kills(cgroup) > 0; }

void OomScore::lower() {
  const Result<std::string> score = read_file(score_file, 16);
  if (score && write_score(lowered)) original_ = *score;
}

OomScore::Original::Original(const OomScore& score) : score_(score) {
  if (!score_.original_.empty() && !write_score(score_.original_)) warn("failed to raise oom_score_adj for a child");
}

OomScore::Original::~Original() {
  if (!score_.original_.empty() && !write_score(lowered)) warn("failed to lower oom_score_adj again");
}

}  // namespace keelson
