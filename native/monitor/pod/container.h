// A container's lifecycle: starting → running → draining → exited → removing; and its state as clients see it.
//
// Draining is the time between the init's exit and the report of it: the container's remaining processes are killed,
// its last output is logged, its exit record written. Clients still see it as running; signals are no longer sent.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/file.h"
#include "common/json.h"
#include "monitor/cgroup/oom.h"
#include "monitor/handler/handler.h"
#include "monitor/streams/container_streams.h"

namespace keelson {

// PROTOCOL.md's ContainerState.
struct ContainerState {
  std::string id;
  bool exited = false;
  pid_t pid = 0;
  int64_t started_at = 0;   // nanoseconds since the epoch
  int64_t finished_at = 0;  // these four only when exited
  int exit_code = 0;
  int signal = 0;
  bool oom_killed = false;
  bool tty = false;
};

void write_state(JsonWriter& json, const ContainerState& state);
std::string state_json(const ContainerState& state);

struct StartRequest {
  std::string id;
  std::string bundle;
  std::string log_path;  // empty: none
  bool input = false;
  bool input_once = false;
  std::string seccomp_filter_path;  // empty: none
  std::string pid_of;     // the container whose PID namespace it joins, empty: none
  PidTarget pid_target;   // `pid_of`, resolved
};

class Container : public std::enable_shared_from_this<Container> {
 public:
  struct Events {
    std::function<void(const ContainerState&)> exited;
    std::function<void(const std::string& id)> oom;
  };
  // Gets an error if the start that it waited for failed.
  using Waiter = Done<ContainerState>;

  Container(Context& context, StartRequest request, std::unique_ptr<Handler> handler, std::string exits_dir,
            Events events);

  // `done` is called when the container's execve has succeeded; after a failure the object must not be used any more.
  void start(DoneStatus done);
  // Aborts a start; its `done` then gets `why`. No effect on a start that has finished.
  void abort_start(Error why);
  // `done` is called once the container has exited. The first call sends `signal` (none with a zero limit); later ones
  // may only bring the SIGKILL forward. A container that is starting gets the signal when it has started; at the limit
  // its start is aborted.
  void stop(int signal, std::chrono::milliseconds limit, Waiter done);
  void kill(int signal, DoneStatus done);
  std::weak_ptr<Attempt> exec(const CommandSpec& command, Stdio stdio, Done<Started> done);
  Status attach(const std::shared_ptr<Connection>& client, bool with_input);
  void resume_output();
  Status resize(uint16_t columns, uint16_t rows);
  void reopen_log(DoneStatus done);
  Status update(const Json& resources);
  // Removes an exited container; the object must not be used afterwards. A second call waits for the first.
  void remove(DoneStatus done);

  const ContainerState& state() const { return state_; }
  const std::string& id() const { return state_.id; }
  bool is_starting() const { return phase_ == Phase::starting; }
  // Fails with kind `state` unless the container is running.
  Status must_run(std::string_view step) const;
  // Its stdin, or null if it has none (any more).
  InputPipe* input() { return streams_ ? streams_->input() : nullptr; }
  bool input_once() const { return request_.input_once; }

 private:
  enum class Phase { starting, running, draining, exited, removing };

  // The parts of a start that are prepared while its log is being opened.
  struct Prepared {
    RootfsSpec rootfs;
    StdioPipes pipes;
    DoneStatus done;
  };

  Status prepare(Prepared& prepared);
  Status read_bundle(RootfsSpec& rootfs);
  void open_log();
  Prepared take_prepared();
  void spawn(Prepared prepared, std::shared_ptr<OutputReader> output);
  void fail_start(Error error, DoneStatus done);
  void run(StartedContainer started, StdioPipes pipes, std::shared_ptr<OutputReader> output);
  Status may_exec() const;
  Done<Started> unless_ended(Done<Started> done);
  bool has_ended() const;
  void begin_stop();
  void kill_now();
  void on_exit(const ProcessExit& exit);
  void settle();
  void warn_if_failed(const Status& status) const;

  Context& context_;
  StartRequest request_;
  std::unique_ptr<Handler> handler_;
  std::string exits_dir_;
  Events events_;
  Phase phase_ = Phase::starting;
  ContainerState state_;
  ContainerSpec spec_;
  std::optional<Prepared> waiting_for_log_;  // set while the log is being opened
  Loop::Timer log_deadline_;
  std::optional<Cgroup> cgroup_;  // once started
  Fd pidfd_;
  std::shared_ptr<ContainerStreams> streams_;  // until the exit is reported
  std::unique_ptr<OomWatch> oom_;
  int stop_signal_ = 0;  // of the first stop; 0: no stop yet, or one without a signal
  bool stop_asked_ = false;
  Loop::Timer stop_timer_;
  Loop::Clock::time_point stop_deadline_ = Loop::Clock::time_point::max();
  std::vector<Waiter> waiters_;
  std::vector<DoneStatus> removers_;
  std::shared_ptr<char> execs_ = std::make_shared<char>();  // held by each exec that is being started, to count them
};

}  // namespace keelson
