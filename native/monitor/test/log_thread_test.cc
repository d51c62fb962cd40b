#include "monitor/streams/log_thread.h"

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

}  // namespace

std::vector<Test> log_thread_tests() {
  return {
      {"log thread: ends with a log that nobody takes", ends_with_a_log_that_nobody_takes},
  };
}

}  // namespace keelson::test
