// How a container's processes come to be: by our own set-up (native) or by an OCI runtime binary.
// Each container has one Handler, and both kinds keep the same promises.
#pragma once

#include <memory>
#include <string>

#include "monitor/cgroup/cgroup.h"
#include "monitor/cgroup/oom.h"
#include "monitor/server/loop.h"
#include "monitor/server/reaper.h"
#include "monitor/setup/container_exec.h"
#include "monitor/setup/namespaces.h"
#include "monitor/streams/log_writer.h"

namespace keelson {

// What handlers and containers work with; all of it outlives them.
struct Context {
  Loop& loop;
  Reaper& reaper;
  LogWriter& log_writer;
  Sandbox& sandbox;
  const CgroupHost& cgroups;
  const OomScore& oom_score;
  const Fd& empty_mounts;  // which containers begin with (common/empty_mounts.h); may be none
};

// A container to be started. What is referred to stays as it is until `done`.
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
  // A failure has left nothing behind when `done` is called.
  virtual void start(StartOrder order, Stdio stdio, Done<StartedContainer> done) = 0;
  // Executes `command` in the container that was started. What is returned can be told to break it off.
  virtual std::weak_ptr<Attempt> exec(const ExecTarget& target, const CommandSpec& command, Stdio stdio,
                                      Done<Started> done) = 0;
  // Breaks off a start that is not done: it then fails with `why`.
  virtual void abort_start(Error why) = 0;
  // Only while the init lives and has not been reaped.
  virtual void signal(pid_t init, int signal, DoneStatus done) = 0;
  // The init is dead: takes down its cgroup and whatever else start() made.
  virtual void remove(const Cgroup& cgroup, DoneStatus done) = 0;
};

}  // namespace keelson
