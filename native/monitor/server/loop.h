// The event loop: epoll, timers, work deferred to the end of a round, and the buffers that its handlers share.
//
// The monitor has one, and a second for its log thread (streams/log_thread.h). A loop belongs to the thread that runs it:
// only post() may be called from another. A Watch or Timer stops when it is destroyed, even from inside its own handler.
#pragma once

#include <sys/epoll.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "common/error.h"
#include "common/fd.h"

namespace keelson {

// Completion callback of an asynchronous operation on the loop: called once, with the result.
template <typename T>
using Done = std::move_only_function<void(Result<T>)>;
using DoneStatus = Done<void>;

// TRY for a function that reports through `done`: yields the value of a Result, or gives its Error to `done` and
// returns.
#define TRY_OR(done, expression)                                                                \
  __extension__({                                                                               \
    auto tried_ = (expression);                                                                 \
    if (!tried_) [[unlikely]] return (done)(std::unexpected(std::move(tried_.error())));        \
    *std::move(tried_);                                                                         \
  })

// Two large buffers shared by all events of the loop; their content does not survive from one event to the next.
class SharedBuffers {
 public:
  static constexpr size_t read_size = 256 << 10;
  static constexpr size_t format_size = 448 << 10;

  SharedBuffers() = default;
  SharedBuffers(const SharedBuffers&) = delete;
  SharedBuffers& operator=(const SharedBuffers&) = delete;
  ~SharedBuffers();

  Status map();
  void give_back();

  char* for_reading() { return base_; }
  char* for_formatting() { return base_ + read_size; }

 private:
  char* base_ = nullptr;
};

class Loop {
 public:
  using Handler = std::move_only_function<void(uint32_t events)>;
  using Task = std::move_only_function<void()>;
  using Clock = std::chrono::steady_clock;

  class Watch {
   public:
    // Changes the wanted EPOLL* events; with 0 the handler is not called. This cannot fail: the descriptor stays
    // registered, so that it needs no memory and none of the user's watches (epoll(7)) to be watched again.
    void want(uint32_t events);
    void stop() { loop_.reset(); }

   private:
    friend class Loop;
    struct End {
      uint64_t id;
      void operator()(Loop* loop) const { loop->end_watch(id); }
    };
    std::unique_ptr<Loop, End> loop_;  // null once stopped
  };

  class Timer {
   public:
    void cancel() { loop_.reset(); }

   private:
    friend class Loop;
    struct End {
      std::pair<Clock::time_point, uint64_t> key;
      void operator()(Loop* loop) const { loop->timers_.erase(key); }
    };
    std::unique_ptr<Loop, End> loop_;
  };

  static Result<std::unique_ptr<Loop>> create();

  // `fd` must stay open as long as the Watch exists.
  Result<Watch> watch(int fd, uint32_t events, Handler handler);
  // Fires once, not before `delay`.
  Timer after(std::chrono::milliseconds delay, Task task);
  // Runs once the current events have been handled; use it to destroy an object that is on the call stack.
  void defer(Task task) { deferred_.push_back(std::move(task)); }
  // Queues `task` to run on the loop. May be called from any thread.
  void post(Task task);
  // Drops posted tasks that have not run yet.
  void forget_posted();
  // Called once after each burst of work, after half a second without events.
  void when_quiet(Task task) { when_quiet_ = std::move(task); }

  // Valid only within the current handler: the next one overwrites them.
  SharedBuffers& buffers() { return buffers_; }

  Status run();  // until stop()
  void stop() { stopped_ = true; }
  // Handles the events that are ready, without waiting.
  Status run_ready();
  // A descriptor that is readable (epoll(7)) while events are ready, for a caller that uses run_ready().
  int readiness() const { return epoll_.get(); }

 private:
  struct Entry {
    int fd = -1;
    uint32_t events = 0;
    Handler handler;
  };

  Result<std::span<const epoll_event>> wait(std::span<epoll_event> events, int timeout);
  void handle(std::span<const epoll_event> events);
  std::vector<Task> take_posted();
  void run_posted();
  Status control(int operation, const Entry& entry, uint64_t id);
  void want(uint64_t id, uint32_t events);
  void end_watch(uint64_t id);
  int next_timeout(bool& quiet_wait) const;
  void dispatch(uint64_t id, uint32_t events);
  void run_due_timers();
  void run_deferred();

  Fd epoll_;
  SharedBuffers buffers_;
  uint64_t next_id_ = 1;
  std::map<uint64_t, std::shared_ptr<Entry>> entries_;
  std::map<std::pair<Clock::time_point, uint64_t>, Task> timers_;
  std::vector<Task> deferred_;
  std::mutex posted_mutex_;
  std::vector<Task> posted_;
  Fd posted_event_;
  Watch posted_watch_;
  Task when_quiet_;
  bool busy_since_quiet_ = true;
  bool stopped_ = false;
};

// Makes malloc return freed memory to the kernel, without which release_memory() would have no effect. An idle pod
// should only use memory for its state.
void limit_kept_memory();

// Returns the memory used by a burst of work: pages of the buffers, the heap and the stack, and of the program's own code.
void release_memory(SharedBuffers& buffers);

}  // namespace keelson
