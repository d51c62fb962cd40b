#include "monitor/server/loop.h"

#include <sys/epoll.h>
#include <unistd.h>

#include "common/file.h"
#include "monitor/test/unit_test.h"

namespace keelson::test {

namespace {

using namespace std::chrono_literals;

struct Pipe {
  Fd read_end, write_end;
  Pipe() {
    int ends[2];
    EXPECT(pipe(ends) == 0);
    read_end = Fd(ends[0]);
    write_end = Fd(ends[1]);
  }
};

std::unique_ptr<Loop> make_loop() {
  auto loop = Loop::create();
  EXPECT(loop.has_value());
  return std::move(*loop);
}

void timers_fire_in_order_and_once() {
  auto loop = make_loop();
  std::string order;
  auto b = loop->after(20ms, [&] { order += 'b'; });
  auto a = loop->after(5ms, [&] { order += 'a'; });
  auto cancelled = loop->after(10ms, [&] { order += 'x'; });
  cancelled.cancel();
  auto end = loop->after(40ms, [&] { loop->stop(); });
  EXPECT(loop->run().has_value());
  EXPECT_EQUAL(order, "ab");
}

// Two descriptors are ready in one round, and the first handler destroys the other's watch.
void a_stopped_watch_is_not_called_again() {
  auto loop = make_loop();
  Pipe pipes[2];
  Loop::Watch watches[2];
  int calls = 0;
  for (int i = 0; i < 2; ++i) {
    auto watch = loop->watch(pipes[i].read_end.get(), EPOLLIN, [&, i](uint32_t) {
      ++calls;
      watches[1 - i].stop();
      pipes[1 - i].read_end.reset();
      watches[i].stop();  // including its own, from inside its handler
      loop->defer([&] { loop->stop(); });
    });
    EXPECT(watch.has_value());
    watches[i] = std::move(*watch);
    EXPECT(write(pipes[i].write_end.get(), "x", 1) == 1);
  }
  EXPECT(loop->run().has_value());
  EXPECT_EQUAL(calls, 1);
}

void a_hung_up_pipe_without_wanted_events_does_not_spin() {
  auto loop = make_loop();
  Pipe pipe;
  int calls = 0;
  Loop::Watch watch;
  auto made = loop->watch(pipe.read_end.get(), EPOLLIN, [&](uint32_t) {
    ++calls;
    watch.want(0);
  });
  EXPECT(made.has_value());
  watch = std::move(*made);
  pipe.write_end.reset();
  auto end = loop->after(30ms, [&] { loop->stop(); });
  EXPECT(loop->run().has_value());
  EXPECT_EQUAL(calls, 1);
}

// The watches that the kernel holds for the loop (proc_pid_fdinfo(5)).
std::string registered(const Loop& loop) {
  return read_file("/proc/self/fdinfo/" + std::to_string(loop.readiness()), 64 << 10).value_or("");
}

void a_watch_without_wanted_events_stays_registered() {
  auto loop = make_loop();
  Pipe pipe;
  int calls = 0;
  auto watch = loop->watch(pipe.read_end.get(), 0, [&](uint32_t) { ++calls; });
  EXPECT(watch.has_value());
  const std::string line = "tfd: " + std::string(8 - std::to_string(pipe.read_end.get()).size(), ' ') +
                           std::to_string(pipe.read_end.get()) + " ";
  EXPECT(registered(*loop).contains(line));
  pipe.write_end.reset();
  EXPECT(loop->run_ready().has_value() && loop->run_ready().has_value());
  EXPECT_EQUAL(calls, 0);
  watch->want(EPOLLIN);
  EXPECT(loop->run_ready().has_value());
  EXPECT_EQUAL(calls, 1);
  watch->want(0);
  EXPECT(loop->run_ready().has_value());
  EXPECT_EQUAL(calls, 1);
  EXPECT(registered(*loop).contains(line));
  watch->stop();
  EXPECT(!registered(*loop).contains(line));
}

void quiet_is_reported_once() {
  auto loop = make_loop();
  int quiet = 0;
  loop->when_quiet([&] { ++quiet; });
  auto end = loop->after(1700ms, [&] { loop->stop(); });
  EXPECT(loop->run().has_value());
  EXPECT_EQUAL(quiet, 1);
}

}  // namespace

std::vector<Test> loop_tests() {
  return {
      {"loop: timers fire in order and once", timers_fire_in_order_and_once},
      {"loop: a stopped watch is not called again", a_stopped_watch_is_not_called_again},
      {"loop: a hung-up pipe without wanted events does not spin", a_hung_up_pipe_without_wanted_events_does_not_spin},
      {"loop: a watch without wanted events stays registered", a_watch_without_wanted_events_stays_registered},
      {"loop: quiet is reported once", quiet_is_reported_once},
  };
}

}  // namespace keelson::test
