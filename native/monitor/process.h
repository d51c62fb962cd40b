// Starting the pod's processes: a container's init from its bundle, and an exec
// into a living container. Both return once execve has succeeded, or with the
// error of the step that failed and nothing left behind.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "../common/error.h"
#include "../common/fd.h"
#include "cgroup.h"
#include "sandbox.h"
#include "spec.h"

namespace keelson {

// The process's ends of its standard streams, closed in the monitor after the start.
// With a terminal all three are unused: the pty is made inside the container's
// own devpts and its master comes back in Started::terminal.
struct Stdio {
  Fd in, out, err;
};

struct Started {
  pid_t pid = 0;
  Fd pidfd;
  Fd terminal;  // the pty's master, non-blocking, only with a terminal
};

struct InitRequest {
  std::string id;                   // the container's
  std::string bundle;               // directory
  std::string seccomp_filter_path;  // compiled BPF program, empty: none
};

// `spec` is the bundle's parsed config.json. The process enters `cgroup` before its first instruction runs.
Result<Started> start_init(const Sandbox& sandbox, const InitRequest& request, const ContainerSpec& spec,
                           const RootfsSpec& rootfs, const Cgroup& cgroup, Stdio stdio);

struct ExecRequest {
  std::string id;         // the container's
  pid_t container_pid = 0;
  int container_pidfd = -1;
  std::string seccomp_filter_path;
};

// `process` is the container's process with args and terminal replaced.
Result<Started> start_exec(const Sandbox& sandbox, const ExecRequest& request, const ContainerSpec& spec,
                           const ProcessSpec& process, const Cgroup& cgroup, Stdio stdio);

// A socket connected to localhost:port inside the pod's network namespace (IPv4, or
// IPv6 when `ipv6`), non-blocking; the caller waits and bounds the wait.
struct PortConnection {
  Fd socket;
  bool connecting = false;  // EINPROGRESS: wait for POLLOUT, then read SO_ERROR
};
Result<PortConnection> connect_in_pod(const Sandbox& sandbox, uint16_t port, bool ipv6);

}  // namespace keelson
