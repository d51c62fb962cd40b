// The monitor's ends of a process's streams.
#include "monitor/streams/stdio.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "monitor/test/unit_test.h"

namespace keelson::test {

namespace {

using namespace std::chrono_literals;

struct Terminal {
  Fd master{posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC)};
  Fd slave;

  Terminal() {
    EXPECT(master && unlockpt(master.get()) == 0);
    slave = Fd(ioctl(master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
    EXPECT(static_cast<bool>(slave));
  }

  // Until it accepts no more, also after the kernel has had time to process some.
  void fill() {
    const std::string lines(100, '\n');  // after an unfinished line, the end-of-file character would only end the line
    for (int full = 0; full < 5; ++full) {
      while (write(master.get(), lines.data(), lines.size()) > 0) full = 0;
      usleep(10'000);
    }
  }
};

void types_the_end_into_a_terminal_that_was_full() {
  auto loop = Loop::create();
  EXPECT(loop.has_value());
  Terminal terminal;
  terminal.fill();
  auto input = InputPipe::open(**loop, Fd(dup(terminal.master.get())), InputPipe::Target::terminal, [] {});
  EXPECT(input.has_value());
  (*input)->end();
  bool ended = false;
  auto watch = (*loop)->watch(terminal.slave.get(), EPOLLIN, [&](uint32_t) {
    char line[4096];
    if (read(terminal.slave.get(), line, sizeof line) != 0) return;
    ended = true;
    (*loop)->stop();
  });
  EXPECT(watch.has_value());
  auto limit = (*loop)->after(2s, [&] { (*loop)->stop(); });
  EXPECT((*loop)->run().has_value());
  EXPECT(ended);
}

int width_of(const Fd& pipe) { return fcntl(pipe.get(), F_GETPIPE_SZ); }

void widens_only_full_pipes() {
  auto pipes = make_stdio_pipes(false);
  EXPECT(pipes.has_value());
  constexpr long usual = 64 << 10, wide = 256 << 10;
  EXPECT_EQUAL(width_of(pipes->out), usual);
  EXPECT_EQUAL(width_of(pipes->err), usual);
  PipeWidth width;
  width.follow(pipes->out.get(), 100);
  EXPECT_EQUAL(width_of(pipes->out), usual);
  width.follow(pipes->out.get(), usual / 2);
  EXPECT_EQUAL(width_of(pipes->out), wide);
  width.follow(pipes->out.get(), wide);
  EXPECT_EQUAL(width_of(pipes->out), wide);
  // It stays wide while it is being filled again.
  const std::string more(2 * usual, 'x');
  EXPECT_EQUAL(write(pipes->theirs.out.get(), more.data(), more.size()), static_cast<long>(more.size()));
  width.follow(pipes->out.get(), 100);
  EXPECT_EQUAL(width_of(pipes->out), wide);
  std::string content(more.size(), '\0');
  EXPECT_EQUAL(read(pipes->out.get(), content.data(), content.size()), static_cast<long>(more.size()));
  width.follow(pipes->out.get(), 100);
  EXPECT_EQUAL(width_of(pipes->out), usual);
}

}  // namespace

std::vector<Test> stdio_tests() {
  return {
      {"stdio: writes the end of file to a terminal that was full", types_the_end_into_a_terminal_that_was_full},
      {"stdio: widens only pipes that are full", widens_only_full_pipes},
  };
}

}  // namespace keelson::test
