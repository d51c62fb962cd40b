// How a container's processes are created: by the built-in setup (native) or by an OCI runtime binary.
// Each container has one Handler; both kinds give the same guarantees.
#pragma once

#include <memory>
#include <string>

#include "monitor/cgroup/cgroup.h"
#include "monitor/cgroup/oom.h"
#include "monitor/server/loop.h"
#include "monitor/server/reaper.h"
#include "monitor/setup/container_exec.h"
#include "monitor/setup/namespaces.h"
#include "monitor/streams/log_thread.h"

namespace keelson {

// Shared by handlers and containers, and outlives them.
struct Context {
  Loop& loop;
  Reaper& reaper;
  LogThread& log_thread;
  Sandbox& sandbox;
  const CgroupHost& cgroups;
  const OomScore& oom_score;
  const Fd& empty_mounts;  // mount namespace that containers start from (common/empty_mounts.h); may be no Fd
};

// A container to start. The referenced objects must not change until `done` is called.
struct StartOrder {
  const std::string& id;
  const std::string& bundle;
  const std::string& seccomp_filter_path;  // compiled BPF program, empty: none
  const PidTarget& pid_target;
  const ContainerSpec& spec;
  RootfsSpec rootfs;
  std::string cgroup_path;  // cgroupfs form
};

struct StartedContainer {
  Started init;
  Cgroup cgroup;
};

class Handler {
 public:
  virtual ~Handler() = default;
  // After a failure nothing is left behind when `done` is called.
  virtual void start(StartOrder order, Stdio stdio, Done<StartedContainer> done) = 0;
  // Executes `command` in the started container. The returned Attempt can be aborted.
  virtual std::weak_ptr<Attempt> exec(const ExecTarget& target, const CommandSpec& command, Stdio stdio,
                                      Done<Started> done) = 0;
  // Aborts a start that has not finished: it then fails with `why`.
  virtual void abort_start(Error why) = 0;
  // Only valid while the init has not been reaped.
  virtual void signal(pid_t init, int signal, DoneStatus done) = 0;
  // After the init's exit: removes the cgroup and everything else that start() created.
  virtual void remove(const Cgroup& cgroup, DoneStatus done) = 0;
};

}  // namespace keelson
