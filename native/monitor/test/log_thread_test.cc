#include "monitor/streams/log_thread.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "common/file.h"
#include "monitor/streams/container_streams.h"
#include "monitor/streams/output_reader.h"
#include "monitor/test/unit_test.h"

namespace keelson::test {

namespace {

// The monitor's loop and the thread, whose work the tests do themselves.
struct LogThreadFixture {
  Directory directory;
  std::string path = directory.path() + "/0.log";
  std::unique_ptr<Loop> monitor;
  std::unique_ptr<LogThread> thread;

  LogThreadFixture() {
    auto loop = Loop::create();
    EXPECT(loop.has_value());
    monitor = std::move(*loop);
    auto made = LogThread::create(*monitor);
    EXPECT(made.has_value());
    thread = std::move(*made);
  }
  void run_thread() { EXPECT(thread->loop().run_ready().has_value()); }
  std::string text() const {
    auto log = read_file(path, 64 << 20);
    EXPECT(log.has_value());
    return *log;
  }
};

// The monitor shuts down right after a start that it has aborted: the log is opened, and nobody takes it any more.
void ends_with_a_log_that_nobody_takes() {
  LogThreadFixture f;
  bool is_taken = false;
  OutputReader::with_log(*f.thread, f.path, [&](Result<std::shared_ptr<OutputReader>>) { is_taken = true; });
  f.thread.reset();
  f.monitor.reset();
  EXPECT(!is_taken);
}

// Its output is handed on to a client, and the container has exited; then the reader is told to read no more.
void writes_what_is_left_when_nobody_goes_on() {
  LogThreadFixture f;
  auto log = Log::open(f.path);
  EXPECT(log.has_value());
  OutputReader reader(*f.thread, std::move(*log));
  int ends[2];
  EXPECT(pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0);
  const Fd write_end(ends[1]);
  EXPECT(fcntl(write_end.get(), F_SETPIPE_SZ, 1 << 20) >= 0);
  const std::string line = std::string(99, 'x') + "\n";
  constexpr long lines = 5000;
  for (long at = 0; at < lines; ++at) EXPECT(write(write_end.get(), line.data(), line.size()) == 100);

  reader.begin({}, Fd(ends[0]), Fd());
  reader.forward_output(true);
  f.run_thread();
  reader.finish();
  reader.close();
  const std::string text = f.text();
  EXPECT_EQUAL(std::count(text.begin(), text.end(), '\n'), lines);
}

// In one round of the monitor's loop, one event gives the thread work, and the next says that it already had some.
void starts_once_in_a_round() {
  LogThreadFixture f;
  int ends[2];
  EXPECT(pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0);
  const Fd read_end(ends[0]), write_end(ends[1]);
  auto watch = f.monitor->watch(read_end.get(), EPOLLIN, [&](uint32_t) { f.thread->post([] {}); });
  EXPECT(watch.has_value());
  EXPECT(write(write_end.get(), "x", 1) == 1);
  f.thread->loop().post([] {});
  auto threads = [] { return std::ranges::distance(std::filesystem::directory_iterator("/proc/self/task")); };
  const auto before = threads();
  EXPECT(f.monitor->run_ready().has_value());
  EXPECT_EQUAL(threads(), before + 1);
  EXPECT(f.thread->stop());
}

}  // namespace

std::vector<Test> log_thread_tests() {
  return {
      {"log thread: ends with a log that nobody takes", ends_with_a_log_that_nobody_takes},
      {"log thread: writes what is left when nobody goes on", writes_what_is_left_when_nobody_goes_on},
      {"log thread: starts once in a round", starts_once_in_a_round},
  };
}

}  // namespace keelson::test
