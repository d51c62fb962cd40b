// Starting the pod's processes: a container's init from its bundle, and an exec
// into a living container. Both are done when execve has succeeded, or with the
// error of the step that failed and nothing left behind.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"
#include "common/fd.h"
#include "monitor/cgroup/cgroup.h"
#include "monitor/pod/sandbox.h"
#include "monitor/setup/spec.h"

namespace keelson {

class Loop;
class Reaper;

template <typename T>
using Done = std::move_only_function<void(Result<T>)>;
using DoneStatus = std::move_only_function<void(Status)>;

// A start under way.
class Attempt {
 public:
  virtual ~Attempt() = default;
  // Breaks it off; its `done` gets `why` when what was begun is dead. Too late, or a second time, it does nothing.
  virtual void abort(Error why) = 0;
};

// The process's ends of its standard streams, closed in the monitor after the start.
// With a terminal all three are unused: the pty is made inside the container's
// own devpts and its master comes back in Started::sent.
struct Stdio {
  Fd in, out, err;
};

struct Started {
  pid_t pid = 0;
  Fd pidfd;  // none if it has been reaped already
  Fd sent;   // what it has given us: with a terminal the pty's master
};

// The loop that a start is an event of, and who reaps.
struct StartContext {
  Loop& loop;
  Reaper& reaper;
  const Sandbox& sandbox;
};

struct InitRequest {
  std::string id;                   // the container's
  std::string bundle;               // directory
  std::string seccomp_filter_path;  // compiled BPF program, empty: none
  // The container whose PID namespace is joined, if it is neither an own one nor the pod's.
  std::string pid_of;
  int pid_of_pidfd = -1;  // of its init, open during the call
};

// `spec` is the bundle's parsed config.json. The process enters `cgroup` before its first instruction runs.
// What is needed of the arguments after the call was copied.
std::shared_ptr<Attempt> start_init(const StartContext& context, const InitRequest& request,
                                    const ContainerSpec& spec, const RootfsSpec& rootfs, const Cgroup& cgroup,
                                    Stdio stdio, Done<Started> done);

struct ExecRequest {
  std::string id;  // the container's
  int container_pidfd = -1;
  std::string seccomp_filter_path;
  std::shared_ptr<void> slot;  // held until nothing is left of the start
};

// `process` is the container's process with args and terminal replaced.
std::shared_ptr<Attempt> start_exec(const StartContext& context, const ExecRequest& request,
                                    const ContainerSpec& spec, const ProcessSpec& process, const Cgroup& cgroup,
                                    Stdio stdio, Done<Started> done);

// A socket connected to localhost:port inside the pod's network namespace (IPv4, or
// IPv6 when `ipv6`), non-blocking; the caller waits and bounds the wait.
struct PortConnection {
  Fd socket;
  bool connecting = false;  // EINPROGRESS: wait for POLLOUT, then read SO_ERROR
};
Result<PortConnection> connect_in_pod(const Sandbox& sandbox, uint16_t port, bool ipv6);

}  // namespace keelson
