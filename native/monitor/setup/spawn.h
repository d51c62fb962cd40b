// Bearing one process of a container: under way beside the loop until it has executed its command.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "common/error.h"
#include "common/fd.h"
#include "monitor/setup/child.h"
#include "monitor/setup/last_steps.h"
#include "monitor/server/loop.h"
#include "monitor/setup/process.h"
#include "monitor/server/reaper.h"

namespace keelson {

// What a child does. All of it was prepared before the clone: nothing here allocates.
class ChildProgram {
 public:
  virtual ~ChildProgram() = default;
  // First, out of sight of any container: join what exists, drop every descriptor of the monitor.
  virtual void enter(const Child& child) = 0;
  // Then everything that makes it the container's process, up to its credentials.
  virtual void set_up(const Child& child) = 0;
  // What is left then. Null: set_up() does not return.
  virtual const LastSteps* last_steps() const = 0;
};

enum class BirthPlace {
  // The child is the process: it stays in the monitor's PID namespace, or in a new one where nobody else is.
  here,
  // A helper does `enter`, then bears the process in a new PID namespace: of the user namespace it has entered.
  new_namespace_of_helper,
  // The process shall live in a PID namespace where others are, who look at it from its first moment. A helper,
  // which they cannot see, does both parts and bears the process for the last steps alone.
  joined_namespace,
};

struct LaunchOptions {
  uint64_t new_namespaces = 0;  // CLONE_NEW* that the process is born with (joined_namespace: none)
  int cgroup_fd = -1;           // the v2 cgroup it is born into
  BirthPlace place = BirthPlace::here;
  std::string command;          // for the message when it cannot be executed
  std::chrono::milliseconds limit{10'000};
  std::shared_ptr<void> slot;   // held until nothing is left of the start
};

// Calls `done` once, never before it returns: with the process when it has executed its command, or with why not, once
// all that was begun is dead and reaped. What hangs in the kernel is reaped whenever it comes out,
// and not waited for longer than 2 s.
std::shared_ptr<Attempt> launch(Loop& loop, Reaper& reaper, ChildProgram& program, LaunchOptions options,
                                Done<Started> done);

// The same for one who has nothing else to do meanwhile: runs the loop until it is done.
Result<Started> launch_and_wait(Loop& loop, Reaper& reaper, ChildProgram& program, LaunchOptions options);

}  // namespace keelson
