#include "monitor/cgroup/oom.h"

#include <sys/epoll.h>
#include <unistd.h>

namespace keelson {

namespace {

using namespace std::chrono_literals;

// cgroup v1 tells of the shortage before it counts the kill: look again after 10, 20, 40, 80 and 160 ms.
constexpr int looks = 5;

}  // namespace

Status OomWatch::open() {
  auto events = cgroup_.oom_watch();
  if (!events) return std::unexpected(events.error());
  events_ = std::move(*events);
  auto watch = loop_.watch(events_.get(), EPOLLIN, [this](uint32_t) { on_event(); });
  if (!watch) return std::unexpected(watch.error());
  watch_ = std::move(*watch);
  return {};
}

bool OomWatch::check() {
  uint64_t kills = cgroup_.oom_kills();
  if (kills <= known_kills_) return false;
  known_kills_ = kills;
  killed_ = true;
  on_kill_();
  return true;
}

void OomWatch::on_event() {
  char event[4096];  // an eventfd's counter or some inotify events: only the wake-up matters
  if (read(events_.get(), event, sizeof event) <= 0 && errno != EAGAIN && errno != EINTR) return watch_.stop();
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

}  // namespace keelson
