// The thread that works on the file system of the pod's logs, so that nothing else in the pod waits for it: for a frozen
// one (fsfreeze), an NFS server that is gone, a journal that waits for a slow disk.
//
// Jobs run one by one, in order. Formatted records travel in two buffers, and a log that finds neither free waits: its
// container is then held back as by a full pipe. The thread exists only while there is something to write.
#pragma once

#include <pthread.h>

#include <condition_variable>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>

#include "monitor/server/loop.h"
#include "monitor/streams/log_file.h"

namespace keelson {

class LogWriter {
 public:
  static constexpr size_t buffer_size = 448 << 10;

  // A log. It calls forget() before it is destroyed.
  class Client {
   public:
    // Of a write that lost something, or that was to be reported.
    virtual void on_written(LogFile::Appended appended) = 0;
    // A job has finished since an await…() that returned false.
    virtual void on_progress() = 0;

   protected:
    ~Client() = default;
  };

  static Result<std::unique_ptr<LogWriter>> create(Loop& loop);
  LogWriter(const LogWriter&) = delete;
  LogWriter& operator=(const LogWriter&) = delete;
  ~LogWriter();

  // Answers from the loop, never at once.
  void open(std::shared_ptr<LogFile> file, DoneStatus done);
  // Null: none is free. One that is taken goes to write() or back.
  char* take_buffer();
  void give_back(char* buffer);
  // The job's number.
  uint64_t write(Client& client, std::shared_ptr<LogFile> file, char* buffer, size_t size, bool is_reported);
  void close(std::shared_ptr<LogFile> file);

  // Whether a buffer is free; if not, the client's on_progress() will be called, once, when a job has finished.
  bool await_buffer(Client& client);
  // The same for the end of a job.
  bool await(Client& client, uint64_t job);
  void forget(Client& client);

  // There has been nothing to write for a while: ends the thread and releases the buffers' memory.
  void rest();

 private:
  class Job;
  class Open;
  class Write;
  class Close;
  struct Shared;

  explicit LogWriter(Loop& loop) : loop_(loop) {}
  uint64_t submit(std::unique_ptr<Job> job);
  bool start_thread();
  static void* work(void* shared);
  void wait(Client& client);
  void on_event();
  std::unique_ptr<Job> take_finished();

  Loop& loop_;
  Shared* shared_ = nullptr;  // with the thread, which may outlive this
  Loop::Watch watch_;
  std::list<Client*> waiting_;
  uint64_t submitted_ = 0;
  bool has_thread_ = false;
  pthread_t thread_{};
  void* stack_ = nullptr;
};

}  // namespace keelson
