// The thread that reads the output of the pod's containers and writes their logs, so that nothing else in the pod waits
// for the logs' file system: a frozen one (fsfreeze), an unreachable NFS server, a journal on a slow disk.
//
// It runs its own loop. After half a second without work it exits, and the monitor's loop starts it again when the
// thread's loop has something ready: an idle pod has one thread.
//
// It allocates from the same heap as the monitor's loop, which clones processes meanwhile. Their code between clone and
// execve must therefore never allocate: it could deadlock on a heap lock that this thread held during the clone.
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

  // Stops the thread. False if it hangs in the kernel: then nothing that it uses may be destroyed.
  bool stop();

  // Runs `task` on the thread; from the monitor's loop. It starts at once, without a round of that loop.
  void post(Loop::Task task);
  // The thread's loop, for post() from any thread; tasks that it runs may use it freely.
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
  Loop::Watch readiness_;  // watched while there is no thread
  bool is_running_ = false;
  pthread_t thread_{};
  void* stack_ = nullptr;
};

}  // namespace keelson
