#include "monitor/pod/container.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <span>

#include "common/fd.h"
#include "monitor/server/monitor_log.h"

namespace keelson {

void write_state(JsonWriter& json, const ContainerState& state) {
  json.begin_object();
  json.key("id").value(state.id);
  json.key("state").value(state.exited ? "exited" : "running");
  json.key("pid").value(state.pid);
  json.key("started_at").value(std::to_string(state.started_at));
  if (state.exited) {
    json.key("finished_at").value(std::to_string(state.finished_at));
    json.key("exit_code").value(state.exit_code);
    json.key("signal").value(state.signal);
    json.key("oom_killed").value(state.oom_killed);
  }
  json.key("tty").value(state.tty);
  json.end_object();
}

std::string state_json(const ContainerState& state) {
  JsonWriter json;
  write_state(json, state);
  return json.take();
}

namespace {

constexpr size_t max_bundle_file = 4 << 20;
// Execs that are being started in one container, including hung ones. The limit is per container, so that one container
// cannot block the others.
constexpr long max_execs = 128;
// With the 30 s that the rest of a start may take, less than the daemon waits for it (containerStart).
constexpr auto log_limit = std::chrono::seconds(25);

// Frees what only the start reads, to keep the memory of an idle pod small.
void forget_what_only_start_needs(ContainerSpec& spec) {
  spec.command = {};
  spec.mounts = {};
  spec.devices = {};
  spec.masked_paths = {};
  spec.readonly_paths = {};
  spec.resources = {};
}

// Creates `directory`/<id>.json, the state after the exit, atomically: a temporary file that is renamed into place.
Status write_exit_record(const std::string& directory, const ContainerState& state) {
  std::string path = directory + "/" + state.id + ".json";
  std::string temporary = directory + "/." + state.id + ".tmp";
  std::string text = state_json(state);
  Fd file(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file) return fail_errno("create " + temporary);
  const std::span bytes(reinterpret_cast<const uint8_t*>(text.data()), text.size());
  if (Status written = write_all(file.get(), bytes, ("write " + temporary).c_str()); !written) {
    unlink(temporary.c_str());
    return written;
  }
  // No fsync: /run is a tmpfs, and the record must outlive the daemon, not the machine.
  if (rename(temporary.c_str(), path.c_str()) != 0) return fail_errno("rename " + temporary);
  return {};
}

Status remove_exit_record(const std::string& directory, const std::string& id) {
  std::string path = directory + "/" + id + ".json";
  if (unlink(path.c_str()) != 0 && errno != ENOENT) return fail_errno("remove " + path);
  return {};
}

}  // namespace

Container::Container(Context& context, StartRequest request, std::unique_ptr<Handler> handler, std::string exits_dir,
                     Events events)
    : context_(context),
      request_(std::move(request)),
      handler_(std::move(handler)),
      exits_dir_(std::move(exits_dir)),
      events_(std::move(events)) {
  state_.id = request_.id;
}

void Container::start(DoneStatus done) {
  // The rest is prepared while the log thread opens the file.
  if (!request_.log_path.empty()) open_log();
  Prepared prepared;
  if (Status status = prepare(prepared); !status) return done(std::move(status));
  prepared.done = std::move(done);
  if (request_.log_path.empty()) return spawn(std::move(prepared), OutputReader::without_log(context_.log_thread));
  waiting_for_log_ = std::move(prepared);
  log_deadline_ = context_.loop.after(log_limit, [this] {
    abort_start({Kind::timeout, "open the log " + request_.log_path, {}, 0, "its file system does not answer"});
  });
}

void Container::open_log() {
  OutputReader::with_log(context_.log_thread, request_.log_path,
                         [weak = weak_from_this()](Result<std::shared_ptr<OutputReader>> output) {
                           const auto self = weak.lock();
                           if (!self || !self->waiting_for_log_) return;  // the start was aborted
                           Prepared prepared = self->take_prepared();
                           if (output) self->spawn(std::move(prepared), std::move(*output));
                           else self->fail_start(std::move(output.error()), std::move(prepared.done));
                         });
}

Container::Prepared Container::take_prepared() {
  log_deadline_.cancel();
  return *std::exchange(waiting_for_log_, std::nullopt);
}

Status Container::prepare(Prepared& prepared) {
  TRY(read_bundle(prepared.rootfs));
  state_.tty = spec_.command.terminal;
  if (!state_.tty) prepared.pipes = TRY(make_stdio_pipes(request_.input));
  return {};
}

void Container::spawn(Prepared prepared, std::shared_ptr<OutputReader> output) {
  std::string cgroup_path =
      spec_.cgroups_path.empty() ? context_.sandbox.spec.cgroup + "/" + request_.id : spec_.cgroups_path;
  StartOrder order{request_.id, request_.bundle,            request_.seccomp_filter_path, request_.pid_target,
                   spec_,       std::move(prepared.rootfs), std::move(cgroup_path)};
  Stdio theirs = std::move(prepared.pipes.theirs);
  handler_->start(std::move(order), std::move(theirs),
                  [this, output = std::move(output), pipes = std::move(prepared.pipes),
                   done = std::move(prepared.done)](Result<StartedContainer> started) mutable {
                    if (!started) return fail_start(std::move(started.error()), std::move(done));
                    stop_timer_.cancel();
                    request_.pid_target = {};
                    run(std::move(*started), std::move(pipes), std::move(output));
                    done({});
                    if (stop_asked_) begin_stop();
                  });
}

void Container::fail_start(Error error, DoneStatus done) {
  stop_timer_.cancel();
  request_.pid_target = {};
  for (Waiter& waiter : std::exchange(waiters_, {})) waiter(fail(Kind::not_found, "stop", "it did not start"));
  done(std::unexpected(std::move(error)));
}

void Container::abort_start(Error why) {
  if (phase_ != Phase::starting) return;
  if (!waiting_for_log_) return handler_->abort_start(std::move(why));
  Prepared prepared = take_prepared();
  fail_start(std::move(why), std::move(prepared.done));
}

Status Container::read_bundle(RootfsSpec& rootfs) {
  const std::string config = TRY(read_file(request_.bundle + "/config.json", max_bundle_file));
  spec_ = TRY(parse_spec(config));
  const std::string layers = TRY(read_file(request_.bundle + "/rootfs.json", max_bundle_file));
  rootfs = TRY(parse_rootfs(layers));
  return {};
}

// The process is running: failures from here on are only logged.
void Container::run(StartedContainer started, StdioPipes pipes, std::shared_ptr<OutputReader> output) {
  state_.pid = started.init.pid;
  state_.started_at = now_ns();
  pidfd_ = std::move(started.init.pidfd);
  cgroup_ = std::move(started.cgroup);
  phase_ = Phase::running;
  context_.reaper.expect(state_.pid, [this](const ProcessExit& exit) { on_exit(exit); });
  forget_what_only_start_needs(spec_);

  streams_ = std::make_shared<ContainerStreams>(context_.loop, context_.log_thread, std::move(output));
  warn_if_failed(streams_->open(std::move(started.init.sent), std::move(pipes), request_.input));
  oom_ = std::make_unique<OomWatch>(context_.loop, *cgroup_, [this] { events_.oom(id()); });
  warn_if_failed(oom_->open());
}

void Container::warn_if_failed(const Status& status) const {
  if (!status) warn("container " + id() + ": " + status.error().message());
}

Status Container::must_run(std::string_view step) const {
  if (phase_ == Phase::running) return {};
  return fail(Kind::state, std::string(step), phase_ == Phase::starting ? "it is still starting" : "it has exited");
}

void Container::stop(int signal, std::chrono::milliseconds limit, Waiter done) {
  if (state_.exited) return done(state_);
  waiters_.push_back(std::move(done));
  if (phase_ != Phase::starting && phase_ != Phase::running) return;
  const bool is_first = !std::exchange(stop_asked_, true);
  if (is_first && limit.count() > 0) stop_signal_ = signal;
  const auto deadline = Loop::Clock::now() + limit;
  const bool is_nearer = deadline < stop_deadline_;
  if (is_nearer) stop_deadline_ = deadline;
  if (phase_ == Phase::running && is_first) return begin_stop();
  if (is_nearer) stop_timer_ = context_.loop.after(std::max(limit, std::chrono::milliseconds(0)), [this] { kill_now(); });
}

// Called while the container runs, or right after it has started.
void Container::begin_stop() {
  if (!pidfd_) return;  // already reaped: the exit is about to be reported
  if (stop_signal_ != 0) {
    handler_->signal(state_.pid, stop_signal_, [weak = weak_from_this()](Status sent) {
      auto self = weak.lock();
      if (self && self->phase_ == Phase::running) self->warn_if_failed(sent);
    });
  }
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(stop_deadline_ - Loop::Clock::now());
  if (left.count() <= 0) return kill_now();
  stop_timer_ = context_.loop.after(left, [this] { kill_now(); });
}

void Container::kill_now() {
  if (phase_ == Phase::starting) {
    return abort_start({Kind::state, "start", {}, 0, "it was stopped while it was starting"});
  }
  cgroup_->thaw();
  handler_->signal(state_.pid, SIGKILL, [weak = weak_from_this()](Status sent) {
    auto self = weak.lock();
    if (!self || sent || self->phase_ != Phase::running) return;
    // If an OCI runtime fails, the monitor, as the parent, can still kill the process itself. An AppArmor profile may
    // block that signal, but not those sent by the kernel itself (cgroup.kill).
    if (::kill(self->state_.pid, SIGKILL) != 0) self->warn_if_failed(self->cgroup_->kill_all());
  });
}

void Container::kill(int signal, DoneStatus done) {
  if (phase_ == Phase::draining) return done({});
  if (Status runs = must_run("send a signal"); !runs) return done(std::move(runs));
  handler_->signal(state_.pid, signal, std::move(done));
}

Status Container::may_exec() const {
  TRY(must_run("exec"));
  if (execs_.use_count() <= max_execs) return {};
  return fail(Kind::busy, "exec", std::to_string(max_execs) + " execs are already being started in it");
}

std::weak_ptr<Attempt> Container::exec(const CommandSpec& command, Stdio stdio, Done<Started> done) {
  if (Status may = may_exec(); !may) return cannot_begin(done, std::move(may.error()));
  const ExecTarget target{id(), context_.sandbox, *cgroup_, spec_, state_.pid, pidfd_.get(), execs_};
  return handler_->exec(target, command, std::move(stdio), unless_ended(std::move(done)));
}

// A failure while the container exits is reported as its exit, not as a system error.
Done<Started> Container::unless_ended(Done<Started> done) {
  return [weak = weak_from_this(), done = std::move(done)](Result<Started> started) mutable {
    const auto self = weak.lock();
    const bool failed = !started && started.error().kind == Kind::system;
    if (failed && (!self || self->has_ended())) started = fail(Kind::state, "exec", "it has exited");
    done(std::move(started));
  };
}

// An exiting process has no /proc/<pid>/exe any more, even before the kernel has killed the other processes of its PID
// namespace and the process is reaped.
bool Container::has_ended() const {
  const std::string program = "/proc/" + std::to_string(state_.pid) + "/exe";
  char path;
  return phase_ != Phase::running || (::readlink(program.c_str(), &path, 1) < 0 && errno == ENOENT);
}

Status Container::attach(const std::shared_ptr<Connection>& client, bool with_input) {
  TRY(must_run("attach"));
  streams_->attach(client, with_input && input() != nullptr);
  return {};
}

void Container::resume_output() {
  if (streams_) streams_->resume_output();
}

Status Container::resize(uint16_t columns, uint16_t rows) {
  TRY(must_run("resize the terminal"));
  return streams_->resize(columns, rows);
}

void Container::reopen_log(DoneStatus done) {
  if (Status runs = must_run("reopen the log"); !runs) return done(std::move(runs));
  streams_->reopen_log(std::move(done));
}

Status Container::update(const Json& resources) {
  TRY(must_run("update resources"));
  return cgroup_->apply(resources);
}

void Container::on_exit(const ProcessExit& exit) {
  phase_ = Phase::draining;
  stop_timer_.cancel();
  // In its own PID namespace all processes of the container are dead by now; in a shared one they are not.
  warn_if_failed(cgroup_->kill_all());
  oom_->check();
  // A short process is reaped before its start is reported, and the clock may be set back.
  state_.finished_at = std::max(exit.time_ns, state_.started_at);
  state_.exit_code = exit.code;
  state_.signal = exit.signal;
  state_.oom_killed = oom_->killed();
  oom_.reset();
  streams_->finish([this](bool is_log_complete) {
    if (!is_log_complete) {
      warn("container " + id() + ": the file system of its log does not respond; its last output is lost");
    }
    settle();
  });
}

void Container::settle() {
  phase_ = Phase::exited;
  state_.exited = true;
  warn_if_failed(write_exit_record(exits_dir_, state_));
  streams_->attached().reply(state_.exit_code);
  pidfd_.reset();
  // The streams are the caller of this function: destroy them after it has returned.
  context_.loop.defer([streams = std::move(streams_)] {});
  for (Waiter& waiter : std::exchange(waiters_, {})) waiter(state_);
  events_.exited(state_);
}

void Container::remove(DoneStatus done) {
  if (phase_ != Phase::exited && phase_ != Phase::removing) return done(fail(Kind::state, "delete", "it has not exited"));
  removers_.push_back(std::move(done));
  if (phase_ == Phase::removing) return;
  phase_ = Phase::removing;
  handler_->remove(*cgroup_, [this](Status removed) {
    if (removed) removed = remove_exit_record(exits_dir_, id());
    if (!removed) phase_ = Phase::exited;  // the removal can be retried
    for (DoneStatus& remover : std::exchange(removers_, {})) remover(removed);
  });
}

}  // namespace keelson
