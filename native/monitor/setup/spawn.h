// Spawning the processes of a pod: clone3, then waiting for execve as events of the loop.
//
// The terms used in this folder:
//   spawn      to clone a process and bring it to its execve: only done here
//   child      the code between clone and execve (child.h)
//   procedure  the steps of a child, in order: container_init.cc, container_exec.cc, namespaces.cc (a pod's init)
//   helper     a child that prepares everything and then clones the process, if a namespace requires it
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

// The steps of a child. All data was prepared before the clone, so that nothing here allocates.
class Procedure {
 public:
  virtual ~Procedure() = default;
  // First, not visible to any container: joins existing namespaces and closes every descriptor of the monitor.
  virtual void enter(const Child& child) = 0;
  // Then everything that makes it the container's process, up to its credentials.
  virtual void set_up(const Child& child) = 0;
  // The remaining steps. Null: set_up() does not return.
  virtual const LastSteps* last_steps() const = 0;
};

enum class SpawnWay {
  // The child is the process: it stays in the monitor's PID namespace, or in a new one without other processes.
  direct,
  // A helper runs `enter`, then clones the process into new namespaces, owned by the user namespace it has entered.
  helper_then_new_namespaces,
  // The process runs in a PID namespace with other processes, which can see it from its first moment. A helper, which
  // they cannot see, runs both `enter` and `set_up`, and clones the process only for the last steps.
  helper_then_shared_namespace,
};

struct SpawnOptions {
  SpawnWay way = SpawnWay::direct;
  uint64_t new_namespaces = 0;  // CLONE_NEW* flags of the process (none with helper_then_shared_namespace)
  int cgroup_fd = -1;           // the v2 cgroup that it starts in
  // An alternative cgroup, called before spawn() returns and only if cgroup_fd takes no processes (EBUSY). May return
  // no Fd.
  std::function<Fd()> cgroup_instead;
  std::string command;          // for the message when it cannot be executed
  std::chrono::milliseconds limit{10'000};
  std::shared_ptr<void> slot;   // held until nothing is left of the start
};

struct Started {
  pid_t pid = 0;
  Fd pidfd;  // no Fd if it has already been reaped
  Fd sent;   // the descriptor it has sent: with a terminal, the pty's master
};

// A start in progress.
class Attempt {
 public:
  virtual ~Attempt() = default;
  // Aborts it; its `done` gets `why` once its processes are dead. No effect when it has finished or is already aborted.
  virtual void abort(Error why) = 0;
};

// For a start that fails immediately: calls `done` with `why`, and returns no Attempt.
template <typename T>
std::shared_ptr<Attempt> cannot_begin(Done<T>& done, Error why) {
  done(std::unexpected(std::move(why)));
  return nullptr;
}

// Calls `done` once, after returning: with the process when it has executed its command, or with the error once all its
// processes are dead and reaped. A process that hangs in the kernel is waited for at most 2 s, and reaped whenever it
// dies. The procedure is copied by the clone and may be destroyed when this returns.
std::shared_ptr<Attempt> spawn(Loop& loop, Reaper& reaper, Procedure& procedure, SpawnOptions options,
                               Done<Started> done);

// The same for a caller that has nothing else to do meanwhile: runs the loop until it is done.
Result<Started> spawn_and_wait(Loop& loop, Reaper& reaper, Procedure& procedure, SpawnOptions options);

// Sends SIGKILL to `leader`, its process group, and all its living descendants (up to 4096, from
// /proc/<pid>/task/*/children; a daemon reparented before is left to the container's cleanup).
// `leader` is an unreaped child of the monitor and leads its session.
void kill_with_descendants(pid_t leader);

}  // namespace keelson
