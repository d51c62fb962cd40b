#include "monitor/streams/log_writer.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>

namespace keelson {

namespace {

constexpr size_t buffer_count = 2;
constexpr size_t all_buffers = buffer_count * LogWriter::buffer_size;
// Of which the thread touches two pages; the lowest page is a guard.
constexpr size_t stack_size = 256 << 10;
constexpr size_t guard_size = 64 << 10;

}  // namespace

// run() is the thread's and allocates nothing (log_file.h); everything else is the loop's.
class LogWriter::Job {
 public:
  explicit Job(std::shared_ptr<LogFile> file) : file_(std::move(file)) {}
  virtual ~Job() = default;
  virtual void run() = 0;
  // Whether finish() has something to say to the loop.
  virtual bool is_told() const { return false; }
  virtual void finish() {}
  virtual void forget(const Client*) {}
  // Null: it has none.
  virtual char* buffer() const { return nullptr; }

 protected:
  LogFile& file() { return *file_; }

 private:
  std::shared_ptr<LogFile> file_;
};

class LogWriter::Open : public Job {
 public:
  Open(std::shared_ptr<LogFile> file, DoneStatus done) : Job(std::move(file)), done_(std::move(done)) {}
  void run() override { failure_ = file().open(); }
  bool is_told() const override { return true; }
  void finish() override {
    if (failure_) done_(std::unexpected(file().explain(*failure_)));
    else done_({});
  }

 private:
  DoneStatus done_;
  std::optional<LogFile::Failure> failure_;
};

class LogWriter::Write : public Job {
 public:
  Write(Client& client, std::shared_ptr<LogFile> file, char* buffer, size_t size, bool is_reported)
      : Job(std::move(file)), client_(&client), buffer_(buffer), size_(size), is_reported_(is_reported) {}
  void run() override { appended_ = file().append({buffer_, size_}); }
  bool is_told() const override { return is_reported_ || appended_.lost > 0; }
  void finish() override {
    if (client_ != nullptr) client_->on_written(appended_);
  }
  void forget(const Client* client) override {
    if (client_ == client) client_ = nullptr;
  }
  char* buffer() const override { return buffer_; }

 private:
  Client* client_;
  char* buffer_;
  size_t size_;
  bool is_reported_;
  LogFile::Appended appended_;
};

class LogWriter::Close : public Job {
 public:
  using Job::Job;
  void run() override { file().close(); }
};

// All but the constants is guarded by the mutex. A job in `queue` whose turn it is stays at its front while it runs.
struct LogWriter::Shared {
  using Jobs = std::list<std::unique_ptr<Job>>;

  std::mutex mutex;
  std::condition_variable has_work;
  Jobs queue;
  Jobs finished;  // to be told to the loop
  Jobs spent;     // to be freed by it
  uint64_t finished_count = 0;
  bool is_awaited = false;
  bool is_ending = false;
  std::array<bool, buffer_count> is_taken{};
  char* buffers = nullptr;
  Fd event;

  void finish_first() {
    Job& job = *queue.front();
    if (job.buffer() != nullptr) is_taken[index_of(job.buffer())] = false;
    finished_count += 1;
    const bool is_told = job.is_told();
    Jobs& next = is_told ? finished : spent;
    next.splice(next.end(), queue, queue.begin());
    if (!is_told && !is_awaited) return;
    is_awaited = false;
    eventfd_write(event.get(), 1);
  }

  bool has_buffer() const { return std::ranges::find(is_taken, false) != is_taken.end(); }
  size_t index_of(const char* buffer) const { return static_cast<size_t>(buffer - buffers) / buffer_size; }
};

Result<std::unique_ptr<LogWriter>> LogWriter::create(Loop& loop) {
  std::unique_ptr<LogWriter> writer(new LogWriter(loop));
  writer->shared_ = new Shared;
  Shared& shared = *writer->shared_;
  shared.event = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!shared.event) return fail_errno("create an eventfd");
  void* buffers = mmap(nullptr, all_buffers, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (buffers == MAP_FAILED) return fail_errno("map the buffers of logs");
  // A huge page would be 2 MiB of memory for a few bytes of log.
  madvise(buffers, all_buffers, MADV_NOHUGEPAGE);
  shared.buffers = static_cast<char*>(buffers);
  writer->watch_ = TRY(loop.watch(shared.event.get(), EPOLLIN, [self = writer.get()](uint32_t) { self->on_event(); }));
  return writer;
}

LogWriter::~LogWriter() {
  rest();
  if (has_thread_) return;  // it hangs in the kernel, with what is shared
  if (shared_->buffers != nullptr) munmap(shared_->buffers, all_buffers);
  delete shared_;
}

void LogWriter::open(std::shared_ptr<LogFile> file, DoneStatus done) {
  submit(std::make_unique<Open>(std::move(file), std::move(done)));
}

char* LogWriter::take_buffer() {
  const std::lock_guard lock(shared_->mutex);
  const auto free = std::ranges::find(shared_->is_taken, false);
  if (free == shared_->is_taken.end()) return nullptr;
  *free = true;
  return shared_->buffers + static_cast<size_t>(free - shared_->is_taken.begin()) * buffer_size;
}

void LogWriter::give_back(char* buffer) {
  const std::lock_guard lock(shared_->mutex);
  shared_->is_taken[shared_->index_of(buffer)] = false;
}

uint64_t LogWriter::write(Client& client, std::shared_ptr<LogFile> file, char* buffer, size_t size, bool is_reported) {
  return submit(std::make_unique<Write>(client, std::move(file), buffer, size, is_reported));
}

void LogWriter::close(std::shared_ptr<LogFile> file) { submit(std::make_unique<Close>(std::move(file))); }

bool LogWriter::await_buffer(Client& client) {
  const std::lock_guard lock(shared_->mutex);
  if (shared_->has_buffer()) return true;
  wait(client);
  return false;
}

bool LogWriter::await(Client& client, uint64_t job) {
  const std::lock_guard lock(shared_->mutex);
  if (shared_->finished_count >= job) return true;
  wait(client);
  return false;
}

// With the mutex held.
void LogWriter::wait(Client& client) {
  if (std::ranges::find(waiting_, &client) == waiting_.end()) waiting_.push_back(&client);
  shared_->is_awaited = true;
}

void LogWriter::forget(Client& client) {
  waiting_.remove(&client);
  const std::lock_guard lock(shared_->mutex);
  for (Shared::Jobs* jobs : {&shared_->queue, &shared_->finished}) {
    for (const auto& job : *jobs) job->forget(&client);
  }
}

uint64_t LogWriter::submit(std::unique_ptr<Job> job) {
  Shared::Jobs spent;
  if (!has_thread_) has_thread_ = start_thread();
  const std::lock_guard lock(shared_->mutex);
  spent.swap(shared_->spent);
  shared_->queue.push_back(std::move(job));
  submitted_ += 1;
  if (has_thread_) {
    shared_->has_work.notify_one();
  } else {
    // Where the kernel allows no thread, the loop must do.
    shared_->queue.front()->run();
    shared_->finish_first();
  }
  return submitted_;
}

bool LogWriter::start_thread() {
  void* stack = mmap(nullptr, stack_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (stack == MAP_FAILED) return false;
  mprotect(stack, guard_size, PROT_NONE);
  sigset_t all;
  sigfillset(&all);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstack(&attributes, static_cast<char*>(stack) + guard_size, stack_size - guard_size);
  pthread_attr_setsigmask_np(&attributes, &all);
  const bool is_started = pthread_create(&thread_, &attributes, work, shared_) == 0;
  pthread_attr_destroy(&attributes);
  if (is_started) stack_ = stack;
  else munmap(stack, stack_size);
  return is_started;
}

void* LogWriter::work(void* argument) {
  prctl(PR_SET_NAME, "keelson-log", 0, 0, 0);
  Shared& shared = *static_cast<Shared*>(argument);
  std::unique_lock lock(shared.mutex);
  for (;;) {
    shared.has_work.wait(lock, [&shared] { return shared.is_ending || !shared.queue.empty(); });
    if (shared.queue.empty()) return nullptr;
    Job& job = *shared.queue.front();
    lock.unlock();
    job.run();
    lock.lock();
    shared.finish_first();
  }
}

void LogWriter::on_event() {
  eventfd_t count;
  eventfd_read(shared_->event.get(), &count);
  // One by one: each may destroy the client of the next.
  while (const auto job = take_finished()) job->finish();
  for (size_t left = waiting_.size(); left > 0 && !waiting_.empty(); --left) {
    Client& client = *waiting_.front();
    waiting_.pop_front();
    client.on_progress();
  }
}

std::unique_ptr<LogWriter::Job> LogWriter::take_finished() {
  const std::lock_guard lock(shared_->mutex);
  if (shared_->finished.empty()) return nullptr;
  auto job = std::move(shared_->finished.front());
  shared_->finished.pop_front();
  return job;
}

void LogWriter::rest() {
  if (!has_thread_) return;
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->spent.clear();
    shared_->is_ending = shared_->queue.empty();
    // Its end of work begins another burst, and the next rest.
    shared_->is_awaited = !shared_->is_ending;
    if (!shared_->is_ending) return;
    shared_->has_work.notify_one();
  }
  pthread_join(thread_, nullptr);
  shared_->is_ending = false;
  has_thread_ = false;
  munmap(stack_, stack_size);
  madvise(shared_->buffers, all_buffers, MADV_DONTNEED);
}

}  // namespace keelson
