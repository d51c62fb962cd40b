#include "monitor/server/loop.h"

#include <malloc.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <span>

#include "common/own_program.h"

namespace keelson {

namespace {

constexpr int quiet_after_ms = 500;

}  // namespace

void Loop::Watch::want(uint32_t events) {
  if (loop_) loop_->want(loop_.get_deleter().id, events);
}

// EPOLLHUP and EPOLLERR are always reported. Edge-triggered, that is once, not in every round.
Status Loop::control(int operation, const Entry& entry, uint64_t id) {
  epoll_event event{};
  event.events = entry.events == 0 ? uint32_t{EPOLLET} : entry.events;
  event.data.u64 = id;
  if (epoll_ctl(epoll_.get(), operation, entry.fd, &event) != 0) return fail_errno("watch a descriptor");
  return {};
}

void Loop::want(uint64_t id, uint32_t events) {
  auto found = entries_.find(id);
  if (found == entries_.end() || found->second->events == events) return;
  found->second->events = events;
  static_cast<void>(control(EPOLL_CTL_MOD, *found->second, id));
}

void Loop::end_watch(uint64_t id) {
  auto found = entries_.find(id);
  if (found == entries_.end()) return;
  static_cast<void>(control(EPOLL_CTL_DEL, *found->second, id));
  entries_.erase(found);
}

Result<std::unique_ptr<Loop>> Loop::create() {
  auto loop = std::make_unique<Loop>();
  loop->epoll_ = Fd(epoll_create1(EPOLL_CLOEXEC));
  if (!loop->epoll_) return fail_errno("create an epoll descriptor");
  TRY(loop->buffers_.map());
  loop->posted_event_ = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!loop->posted_event_) return fail_errno("create an eventfd");
  auto run_posted = [self = loop.get()](uint32_t) { self->run_posted(); };
  loop->posted_watch_ = TRY(loop->watch(loop->posted_event_.get(), EPOLLIN, std::move(run_posted)));
  return loop;
}

Result<Loop::Watch> Loop::watch(int fd, uint32_t events, Handler handler) {
  auto entry = std::make_shared<Entry>();
  entry->fd = fd;
  entry->events = events;
  entry->handler = std::move(handler);
  uint64_t id = next_id_++;
  TRY(control(EPOLL_CTL_ADD, *entry, id));
  entries_.emplace(id, std::move(entry));
  Watch watch;
  watch.loop_ = {this, {id}};
  return watch;
}

Loop::Timer Loop::after(std::chrono::milliseconds delay, Task task) {
  const std::pair key(Clock::now() + delay, next_id_++);
  timers_.emplace(key, std::move(task));
  Timer timer;
  timer.loop_ = {this, {key}};
  return timer;
}

void Loop::post(Task task) {
  const std::lock_guard lock(posted_mutex_);
  posted_.push_back(std::move(task));
  if (posted_.size() == 1) eventfd_write(posted_event_.get(), 1);
}

void Loop::forget_posted() { take_posted(); }

std::vector<Loop::Task> Loop::take_posted() {
  const std::lock_guard lock(posted_mutex_);
  return std::exchange(posted_, {});
}

void Loop::run_posted() {
  eventfd_t count;
  eventfd_read(posted_event_.get(), &count);
  for (Task& posted : take_posted()) {
    Task task = std::move(posted);
    task();
  }
}

Status Loop::run() {
  stopped_ = false;
  busy_since_quiet_ = true;
  std::array<epoll_event, 32> events;
  while (!stopped_) {
    bool quiet_wait = false;
    const int timeout = next_timeout(quiet_wait);
    const auto ready = TRY(wait(events, timeout));
    if (ready.empty() && quiet_wait) {
      busy_since_quiet_ = false;
      when_quiet_();
    }
    handle(ready);
  }
  return {};
}

Status Loop::run_ready() {
  std::array<epoll_event, 32> events;
  handle(TRY(wait(events, 0)));
  return {};
}

Result<std::span<const epoll_event>> Loop::wait(std::span<epoll_event> events, int timeout) {
  // Not by epoll_wait(3), a cancellation point: in a process that has had a thread it runs more of the C library, and what
  // an idle monitor runs last stays in memory.
  const long count = syscall(SYS_epoll_pwait, epoll_.get(), events.data(), events.size(), timeout, nullptr, 0);
  if (count < 0 && errno != EINTR) return fail_errno("wait for events");
  return events.first(static_cast<size_t>(std::max(count, 0L)));
}

void Loop::handle(std::span<const epoll_event> events) {
  if (!events.empty()) busy_since_quiet_ = true;
  for (const epoll_event& event : events) dispatch(event.data.u64, event.events);
  run_due_timers();
  run_deferred();
}

int Loop::next_timeout(bool& quiet_wait) const {
  int timeout = -1;
  if (!timers_.empty()) {
    auto left = std::chrono::ceil<std::chrono::milliseconds>(timers_.begin()->first.first - Clock::now()).count();
    timeout = static_cast<int>(std::clamp<int64_t>(left, 0, 1 << 30));
  }
  quiet_wait = busy_since_quiet_ && when_quiet_ && (timeout < 0 || timeout > quiet_after_ms);
  return quiet_wait ? quiet_after_ms : timeout;
}

void Loop::dispatch(uint64_t id, uint32_t events) {
  auto found = entries_.find(id);
  if (found == entries_.end()) return;  // stopped by an earlier event of this round
  std::shared_ptr<Entry> entry = found->second;  // the handler may stop its own Watch
  if (entry->events != 0) entry->handler(events);
}

void Loop::run_due_timers() {
  if (timers_.empty()) return;
  const auto now = Clock::now();
  while (!timers_.empty() && timers_.begin()->first.first <= now) {
    Task task = std::move(timers_.begin()->second);
    timers_.erase(timers_.begin());
    busy_since_quiet_ = true;
    task();
  }
}

void Loop::run_deferred() {
  while (!deferred_.empty()) {
    std::vector<Task> tasks = std::exchange(deferred_, {});
    for (Task& task : tasks) task();
  }
}

namespace {

constexpr size_t all_buffers = SharedBuffers::read_size + SharedBuffers::format_size;

}  // namespace

SharedBuffers::~SharedBuffers() {
  if (base_ != nullptr) munmap(base_, all_buffers);
}

Status SharedBuffers::map() {
  void* base = mmap(nullptr, all_buffers, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return fail_errno("map the shared buffers");
  // A huge page would be 2 MiB of memory for a few bytes of log.
  madvise(base, all_buffers, MADV_NOHUGEPAGE);
  base_ = static_cast<char*>(base);
  return {};
}

void SharedBuffers::give_back() { madvise(base_, all_buffers, MADV_DONTNEED); }

void limit_kept_memory() {
  // One heap for the log thread too: a second arena would add to the memory of an idle pod.
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_MMAP_THRESHOLD, 64 << 10);
  mallopt(M_TRIM_THRESHOLD, 64 << 10);
}

namespace {

// Releases the stack's pages below the current frames, except for one page: the calls made from here need it.
void release_stack() {
  constexpr uintptr_t page = 4 << 10;
  constexpr uintptr_t deepest = 96 << 10;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(__builtin_frame_address(0)) & ~(page - 1)) - page;
  // Where part of the range is not mapped it fails with ENOMEM, after it has done the rest.
  madvise(reinterpret_cast<void*>(end - deepest), deepest, MADV_DONTNEED);
}

}  // namespace

void release_memory(SharedBuffers& buffers) {
  buffers.give_back();
  malloc_trim(0);
  release_stack();
  // Until epoll_wait(2) as little of the C library as possible should run: its pages would be faulted in again.
  drop_program_pages();
}

}  // namespace keelson
