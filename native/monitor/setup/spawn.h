// Spawning the processes of a pod: clone3, then the wait for execve as events of the loop.
//
// The words of this folder:
//   spawn      to clone a process and see it to its execve: here, and nowhere else
//   child      what runs between clone and execve (child.h)
//   procedure  what a child does, in order: container_init.cc, container_exec.cc, namespaces.cc (a pod's init)
//   helper     a child that prepares all and then clones the process itself, where a namespace wants it so
//   process    what runs in the end
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "common/error.h"
#include "common/fd.h"
#include "monitor/server/loop.h"
#include "monitor/server/reaper.h"
#include "monitor/setup/child.h"
#include "monitor/setup/last_steps.h"

namespace keelson {

// What a child does. All of it was prepared before the clone: nothing here allocates.
class Procedure {
 public:
  virtual ~Procedure() = default;
  // First, out of sight of any container: join what exists, drop every descriptor of the monitor.
  virtual void enter(const Child& child) = 0;
  // Then everything that makes it the container's process, up to its credentials.
  virtual void set_up(const Child& child) = 0;
  // What is left then. Null: set_up() does not return.
  virtual const LastSteps* last_steps() const = 0;
};

enum class SpawnWay {
  // The child is the process: it stays in the monitor's PID namespace, or in a new one where nobody else is.
  direct,
  // A helper does `enter`, then clones the process into new namespaces: of the user namespace it has entered.
  helper_then_new_namespaces,
  // The process is to live in a PID namespace where others are, who look at it from its first moment. A helper,
  // which they cannot see, does both parts and clones the process for the last steps alone.
  helper_then_shared_namespace,
};

struct SpawnOptions {
  SpawnWay way = SpawnWay::direct;
  uint64_t new_namespaces = 0;  // CLONE_NEW* that the process begins in (helper_then_shared_namespace: none)
  int cgroup_fd = -1;           // the v2 cgroup it begins in
  // Another one, asked for before spawn() returns, and only where that takes no process (EBUSY). May give none.
  std::function<Fd()> cgroup_instead;
  std::string command;          // for the message when it cannot be executed
  std::chrono::milliseconds limit{10'000};
  std::shared_ptr<void> slot;   // held until nothing is left of the start
};

struct Started {
  pid_t pid = 0;
  Fd pidfd;  // none if it has been reaped already
  Fd sent;   // what it has given us: with a terminal the pty's master
};

// A start under way.
class Attempt {
 public:
  virtual ~Attempt() = default;
  // Breaks it off; its `done` gets `why` when what was begun is dead. Too late, or a second time, it does nothing.
  virtual void abort(Error why) = 0;
};

// For one that cannot even begin: tells `done` why, and is nothing that could be broken off.
template <typename T>
std::shared_ptr<Attempt> cannot_begin(Done<T>& done, Error why) {
  done(std::unexpected(std::move(why)));
  return nullptr;
}

// Calls `done` once, never before it returns: with the process when it has executed its command, or with why not, once
// all that was begun is dead and reaped. What hangs in the kernel is reaped whenever it comes out,
// and not waited for longer than 2 s. The procedure has been copied by the clone and may go when this returns.
std::shared_ptr<Attempt> spawn(Loop& loop, Reaper& reaper, Procedure& procedure, SpawnOptions options,
                               Done<Started> done);

// The same for one who has nothing else to do meanwhile: runs the loop until it is done.
Result<Started> spawn_and_wait(Loop& loop, Reaper& reaper, Procedure& procedure, SpawnOptions options);

// SIGKILL to `leader`, its process group, and all its living descendants (up to 4096, by
// /proc/<pid>/task/*/children; a daemon that left the family before stays the container's).
// `leader` is our unreaped child and leads its session.
void kill_with_descendants(pid_t leader);

}  // namespace keelson
