// The event loop: epoll, timers, work put off to the end of a round, and the buffer that its handlers share.
//
// Everything in the monitor runs on this one thread, except what works on logs' files (log_writer.h). A Watch or Timer stops when
// it is destroyed, also from inside its own handler.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "common/error.h"
#include "common/fd.h"

namespace keelson {

// How what is begun on the loop ends: a call of this, once, with the result.
template <typename T>
using Done = std::move_only_function<void(Result<T>)>;
using DoneStatus = Done<void>;

// TRY for a function that answers by `done`: the value of a Result, or the end of the function with its Error to `done`.
#define TRY_OR(done, expression)                                                                \
  __extension__({                                                                               \
    auto tried_ = (expression);                                                                 \
    if (!tried_) [[unlikely]] return (done)(std::unexpected(std::move(tried_.error())));        \
    *std::move(tried_);                                                                         \
  })

// A large buffer that all events of the loop share: nothing is kept in it from one event to the next.
class ReadBuffer {
 public:
  static constexpr size_t size = 256 << 10;

  ReadBuffer() = default;
  ReadBuffer(const ReadBuffer&) = delete;
  ReadBuffer& operator=(const ReadBuffer&) = delete;
  ~ReadBuffer();

  Status map();
  void give_back();

  char* data() { return data_; }

 private:
  char* data_ = nullptr;
};

class Loop {
 public:
  using Handler = std::move_only_function<void(uint32_t events)>;
  using Task = std::move_only_function<void()>;
  using Clock = std::chrono::steady_clock;

  class Watch {
   public:
    // Changes the wanted EPOLL* events. 0 takes the descriptor out of epoll: a
    // registered one reports EPOLLHUP for ever, wanted or not.
    void want(uint32_t events);
    void stop() { loop_.reset(); }

   private:
    friend class Loop;
    struct End {
      uint64_t id;
      void operator()(Loop* loop) const { loop->end_watch(id); }
    };
    std::unique_ptr<Loop, End> loop_;  // whose it is, until it ends
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

  // `fd` must stay open for as long as the Watch.
  Result<Watch> watch(int fd, uint32_t events, Handler handler);
  // Fires once, not before `delay`.
  Timer after(std::chrono::milliseconds delay, Task task);
  // Runs when the events at hand are dealt with; the place to destroy whoever is calling.
  void defer(Task task) { deferred_.push_back(std::move(task)); }
  // Called once after each burst of work, when half a second has passed quietly.
  void when_quiet(Task task) { when_quiet_ = std::move(task); }

  // For whoever runs now: the next handler overwrites what is in it.
  ReadBuffer& buffer() { return buffer_; }

  Status run();  // until stop()
  void stop() { stopped_ = true; }

 private:
  struct Entry {
    int fd = -1;
    uint32_t events = 0;
    Handler handler;
  };

  void want(uint64_t id, uint32_t events);
  void end_watch(uint64_t id);
  int next_timeout(bool& quiet_wait) const;
  void dispatch(uint64_t id, uint32_t events);
  void run_due_timers();
  void run_deferred();

  Fd epoll_;
  ReadBuffer buffer_;
  uint64_t next_id_ = 1;
  std::map<uint64_t, std::shared_ptr<Entry>> entries_;
  std::map<std::pair<Clock::time_point, uint64_t>, Task> timers_;
  std::vector<Task> deferred_;
  Task when_quiet_;
  bool busy_since_quiet_ = true;
  bool stopped_ = false;
};

// An idle pod costs only what it must remember. Makes malloc return what is freed, for give_back_memory() to have an
// effect.
void limit_kept_memory();

// Gives back what a burst of work took: the pages of the buffer, of the heap, and of the program's own code.
void give_back_memory(ReadBuffer& buffer);

}  // namespace keelson
