// Removing a container's cgroup without blocking: a dying process is counted in it for a moment longer.
#include "monitor/handler/handler.h"

namespace keelson {

namespace {

using namespace std::chrono_literals;

constexpr auto give_up_after = 5s;

// Owned by its own timer until `done` is called.
struct Removal : std::enable_shared_from_this<Removal> {
  Removal(Loop& in_loop, Cgroup& of_cgroup, DoneStatus when_done)
      : loop(in_loop), cgroup(of_cgroup), done(std::move(when_done)) {}

  void attempt() {
    Status killed = cgroup.kill_all();
    auto removed = cgroup.remove();
    if (!removed) return done(std::unexpected(removed.error()));
    if (*removed) return done({});
    if (Loop::Clock::now() - begun >= give_up_after) {
      return done(killed ? fail_errno("remove cgroup " + cgroup.path(), EBUSY) : killed);
    }
    timer = loop.after(wait, [self = shared_from_this()] { self->attempt(); });
    wait = std::min(wait * 2, 100ms);
  }

  Loop& loop;
  Cgroup& cgroup;
  DoneStatus done;
  Loop::Timer timer;
  Loop::Clock::time_point begun = Loop::Clock::now();
  std::chrono::milliseconds wait = 1ms;
};

}  // namespace

void remove_cgroup(Loop& loop, Cgroup& cgroup, DoneStatus done) {
  std::make_shared<Removal>(loop, cgroup, std::move(done))->attempt();
}

}  // namespace keelson
