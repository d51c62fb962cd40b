#include "monitor/streams/log_thread.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

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

}  // namespace

std::vector<Test> log_thread_tests() {
  return {
      {"log thread: ends with a log that nobody takes", ends_with_a_log_that_nobody_takes},
      {"log thread: writes what is left when nobody goes on", writes_what_is_left_when_nobody_goes_on},
  };
}

}  // namespace keelson::test
