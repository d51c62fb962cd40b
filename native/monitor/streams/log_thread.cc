#include "monitor/streams/log_thread.h"

#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include <csignal>
#include <ctime>

#include "monitor/server/monitor_log.h"

namespace keelson {

namespace {

// Only two or three pages of it are used; the lowest part is a guard.
constexpr size_t stack_size = 512 << 10;
constexpr size_t guard_size = 64 << 10;
constexpr time_t end_limit_s = 1;

}  // namespace

Result<std::unique_ptr<LogThread>> LogThread::create(Loop& monitor) {
  std::unique_ptr<LogThread> thread(new LogThread(monitor, TRY(Loop::create())));
  Loop& loop = *thread->loop_;
  loop.when_quiet([&loop] {
    loop.buffers().give_back();
    loop.stop();
  });
  thread->readiness_ = TRY(monitor.watch(loop.readiness(), EPOLLIN, [self = thread.get()](uint32_t) { self->wake(); }));
  return thread;
}

bool LogThread::stop() {
  if (is_running_) {
    loop_->post([loop = loop_.get()] { loop->stop(); });
    timespec deadline{};
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += end_limit_s;
    if (pthread_clockjoin_np(thread_, nullptr, CLOCK_MONOTONIC, &deadline) != 0) return false;
    munmap(stack_, stack_size);
    is_running_ = false;
  }
  // Both queues may hold readers, which must be destroyed while the loop exists. What runs here may post to the monitor.
  (void)loop_->run_ready();
  monitor_.forget_posted();
  return true;
}

void LogThread::post(Loop::Task task) {
  loop_->post(std::move(task));
  wake();
}

// Called by the monitor's loop, also when an earlier event of the same round has started the thread.
void LogThread::wake() {
  if (is_running_) return;
  is_running_ = start();
  if (is_running_) return readiness_.want(0);
  // If the thread cannot be created, this one does the work.
  if (Status ran = loop_->run_ready(); !ran) warn("logs: " + ran.error().message());
}

bool LogThread::start() {
  void* stack = mmap(nullptr, stack_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (stack == MAP_FAILED) return false;
  mprotect(stack, guard_size, PROT_NONE);
  sigset_t all;
  sigfillset(&all);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstack(&attributes, static_cast<char*>(stack) + guard_size, stack_size - guard_size);
  pthread_attr_setsigmask_np(&attributes, &all);
  const bool is_started = pthread_create(&thread_, &attributes, work, this) == 0;
  pthread_attr_destroy(&attributes);
  if (is_started) stack_ = stack;
  else munmap(stack, stack_size);
  return is_started;
}

void* LogThread::work(void* self) {
  prctl(PR_SET_NAME, "keelson-log", 0, 0, 0);
  auto* thread = static_cast<LogThread*>(self);
  if (Status ran = thread->loop_->run(); !ran) warn("logs: " + ran.error().message());
  thread->monitor_.post([thread] { thread->join(); });
  return nullptr;
}

// Called by the monitor's loop: the thread has exited or is about to.
void LogThread::join() {
  pthread_join(thread_, nullptr);
  munmap(stack_, stack_size);
  is_running_ = false;
  readiness_.want(EPOLLIN);
}

}  // namespace keelson
