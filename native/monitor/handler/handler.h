// How a container's processes come to be: by our own set-up (native) or by an OCI runtime binary.
// Each container has one Handler, and both kinds keep the same promises.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "monitor/server/loop.h"
#include "monitor/cgroup/oom.h"
#include "monitor/setup/process.h"
#include "monitor/server/reaper.h"

namespace keelson {

// What handlers and containers work with; all of it outlives them.
struct Context {
  Loop& loop;
  Reaper& reaper;
  Sandbox& sandbox;
  const CgroupHost& cgroups;
  const OomScore& oom_score;
};

struct StartOrder {
  InitRequest request;
  std::string cgroup_path;  // cgroupfs form
  RootfsSpec rootfs;
};

struct Launched {
  Started process;
  Cgroup cgroup;
};

struct ExecOrder {
  ExecRequest request;
  std::vector<std::string> args;
  bool terminal = false;
  uint16_t columns = 0;
  uint16_t rows = 0;
};

class Handler {
 public:
  virtual ~Handler() = default;
  // `spec` stays valid until `done`. A failure has left nothing behind when `done` is called.
  virtual void start(StartOrder order, const ContainerSpec& spec, Stdio stdio, Done<Launched> done) = 0;
  virtual std::weak_ptr<Attempt> exec(ExecOrder order, const ContainerSpec& spec, const Cgroup& cgroup, Stdio stdio,
                                      Done<Started> done) = 0;
  // Breaks off a start that is not done: it then fails with `why`.
  virtual void abort_start(Error why) = 0;
  // Only while the init lives and has not been reaped.
  virtual void signal(pid_t init, int signal, DoneStatus done) = 0;
  // The init is dead: takes down its cgroup and whatever else start() made.
  virtual void remove(Cgroup& cgroup, DoneStatus done) = 0;
};

std::unique_ptr<Handler> make_native_handler(Context& context);
// `bundle` holds the runtime's files too: its log, pid files, console socket.
std::unique_ptr<Handler> make_oci_handler(Context& context, std::string id, std::string bundle, std::string binary,
                                          std::string root);

}  // namespace keelson
