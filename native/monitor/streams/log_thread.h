// The thread that reads the output of the pod's containers and writes their logs, so that nothing else in the pod waits for
// the file system of the logs: a frozen one (fsfreeze), an NFS server that is gone, a journal that waits for a slow disk.
//
// It runs a loop of its own. After half a second without work it ends, and the monitor's loop starts it again when that
// loop has something ready: an idle pod has one thread.
//
// It allocates from the same heap as the monitor's loop, which clones processes meanwhile. What runs in these between clone
// and execve must therefore never allocate: it could find the heap locked by this thread, forever.
#pragma once

#include <pthread.h>

#include <memory>

#include "monitor/server/loop.h"

namespace keelson {

class LogThread {
 public:
  static Result<std::unique_ptr<LogThread>> create(Loop& monitor);
  LogThread(const LogThread&) = delete;
  LogThread& operator=(const LogThread&) = delete;
  ~LogThread() { stop(); }

  // Ends the thread. False when it hangs in the kernel: then nothing that it uses may be destroyed.
  bool stop();

  // The thread's loop, for post(); what it runs may use it freely.
  Loop& loop() { return *loop_; }
  // The monitor's loop, for post() from the thread.
  Loop& monitor() { return monitor_; }

 private:
  LogThread(Loop& monitor, std::unique_ptr<Loop> loop) : monitor_(monitor), loop_(std::move(loop)) {}
  void wake();
  bool start();
  static void* work(void* self);
  void join();

  Loop& monitor_;
  std::unique_ptr<Loop> loop_;
  Loop::Watch readiness_;  // while there is no thread
  bool is_running_ = false;
  pthread_t thread_{};
  void* stack_ = nullptr;
};

}  // namespace keelson
