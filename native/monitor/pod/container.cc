#include "monitor/pod/container.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "monitor/server/monitor_log.h"

namespace keelson {

namespace {

constexpr size_t max_bundle_file = 4 << 20;
// Execs on their way into one container, with those that hang there: they are nobody else's burden.
constexpr long max_execs = 128;

Result<Fd> duplicate(const Fd& fd) {
  Fd copy(fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
  if (!copy) return fail_errno("duplicate the terminal");
  return copy;
}

// What only the start reads; an idle pod's memory is counted in kilobytes.
void forget_what_only_start_needs(ContainerSpec& spec) {
  spec.command = {};
  spec.mounts = {};
  spec.devices = {};
  spec.masked_paths = {};
  spec.readonly_paths = {};
  spec.resources = {};
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
  RootfsSpec rootfs;
  std::optional<Log> log;
  StdioPipes pipes;
  if (Status prepared = prepare(rootfs, log, pipes); !prepared) {
    if (log) log->discard();
    return done(std::move(prepared));
  }
  std::string cgroup_path =
      spec_.cgroups_path.empty() ? context_.sandbox.spec.cgroup + "/" + request_.id : spec_.cgroups_path;
  StartOrder order{request_.id, request_.bundle,   request_.seccomp_filter_path, request_.pid_target,
                   spec_,       std::move(rootfs), std::move(cgroup_path)};
  Stdio theirs = std::move(pipes.theirs);
  handler_->start(std::move(order), std::move(theirs),
                  [this, log = std::move(log), pipes = std::move(pipes),
                   done = std::move(done)](Result<StartedContainer> started) mutable {
                    stop_timer_.cancel();
                    request_.pid_target = {};
                    if (!started) {
                      if (log) log->discard();
                      for (Waiter& waiter : std::exchange(waiters_, {})) {
                        waiter(fail(Kind::not_found, "stop", "it did not start"));
                      }
                      return done(std::unexpected(std::move(started.error())));
                    }
                    run(std::move(*started), std::move(pipes), std::move(log));
                    done({});
                    if (stop_asked_) begin_stop();
                  });
}

void Container::abort_start(Error why) {
  if (phase_ == Phase::starting) handler_->abort_start(std::move(why));
}

Status Container::prepare(RootfsSpec& rootfs, std::optional<Log>& log, StdioPipes& pipes) {
  TRY(read_bundle(rootfs));
  if (!request_.log_path.empty()) log = TRY(Log::open(request_.log_path));
  state_.tty = spec_.command.terminal;
  if (!state_.tty) pipes = TRY(make_stdio_pipes(request_.input));
  return {};
}

Status Container::read_bundle(RootfsSpec& rootfs) {
  const std::string config = TRY(read_file(request_.bundle + "/config.json", max_bundle_file));
  spec_ = TRY(parse_spec(config));
  const std::string layers = TRY(read_file(request_.bundle + "/rootfs.json", max_bundle_file));
  rootfs = TRY(parse_rootfs(layers));
  return {};
}

// The process lives: whatever fails from here on ends nothing.
void Container::run(StartedContainer started, StdioPipes pipes, std::optional<Log> log) {
  state_.pid = started.init.pid;
  state_.started_at = now_ns();
  pidfd_ = std::move(started.init.pidfd);
  cgroup_ = std::move(started.cgroup);
  phase_ = Phase::running;
  context_.reaper.expect(state_.pid, [this](const ProcessExit& exit) { on_exit(exit); });
  forget_what_only_start_needs(spec_);

  output_ = std::make_unique<ContainerOutput>(context_.loop, std::move(log));
  warn_if_failed(connect_streams(std::move(started.init.sent), std::move(pipes)));
  oom_ = std::make_unique<OomWatch>(context_.loop, *cgroup_, [this] { events_.oom(id()); });
  warn_if_failed(oom_->open());
}

Status Container::connect_streams(Fd terminal, StdioPipes pipes) {
  if (!terminal) {
    TRY(output_->open(std::move(pipes.out), std::move(pipes.err)));
    return request_.input ? open_input(std::move(pipes.in), InputPipe::Target::pipe) : Status{};
  }
  Result<Fd> copy = duplicate(terminal);
  TRY(output_->open(std::move(terminal), Fd()));
  terminal_ = TRY(std::move(copy));
  return request_.input ? open_input(TRY(duplicate(terminal_)), InputPipe::Target::terminal) : Status{};
}

Status Container::open_input(Fd fd, InputPipe::Target target) {
  input_ = std::make_unique<InputPipe>(context_.loop, std::move(fd), target);
  input_->when_room([this] { output_->attached().resume_input(*input_); });
  return input_->open();
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

// The container runs, now or since just now.
void Container::begin_stop() {
  if (!pidfd_) return;  // it has been reaped, which is about to be told
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
    // Where an OCI runtime fails, the kernel still does as told by the process's parent.
    if (self && !sent && self->phase_ == Phase::running) ::kill(self->state_.pid, SIGKILL);
  });
}

void Container::kill(int signal, DoneStatus done) {
  if (phase_ == Phase::draining) return done({});
  if (Status runs = must_run("send a signal"); !runs) return done(std::move(runs));
  handler_->signal(state_.pid, signal, std::move(done));
}

std::weak_ptr<Attempt> Container::exec(const CommandSpec& command, Stdio stdio, Done<Started> done) {
  Status may = must_run("exec");
  if (may && execs_.use_count() > max_execs) {
    may = fail(Kind::busy, "exec", std::to_string(max_execs) + " processes are on their way into it already");
  }
  if (!may) {
    done(std::unexpected(std::move(may.error())));
    return {};
  }
  const ExecTarget target{id(), context_.sandbox, *cgroup_, spec_, pidfd_.get(), execs_};
  return handler_->exec(target, command, std::move(stdio), std::move(done));
}

Status Container::attach(const std::shared_ptr<Connection>& client) {
  TRY(must_run("attach"));
  output_->attached().add(client);
  return {};
}

Status Container::resize(uint16_t columns, uint16_t rows) {
  TRY(must_run("resize the terminal"));
  if (!terminal_) return fail(Kind::state, "resize the terminal", "the container has none");
  return resize_terminal(terminal_.get(), columns, rows);
}

Status Container::reopen_log() {
  TRY(must_run("reopen the log"));
  if (!output_->log()) return fail(Kind::state, "reopen the log", "the container has none");
  return output_->log()->reopen();
}

Status Container::update(const Json& resources) {
  TRY(must_run("update resources"));
  return cgroup_->apply(resources);
}

void Container::on_exit(const ProcessExit& exit) {
  phase_ = Phase::draining;
  stop_timer_.cancel();
  // With a PID namespace of its own all its processes are dead by now; with a shared one they are not.
  warn_if_failed(cgroup_->kill_all());
  oom_->check();
  state_.finished_at = exit.time_ns;
  state_.exit_code = exit.code;
  state_.signal = exit.signal;
  state_.oom_killed = oom_->killed();
  oom_.reset();
  output_->finish([this] { settle(); });
}

void Container::settle() {
  phase_ = Phase::exited;
  state_.exited = true;
  warn_if_failed(write_exit_record(exits_dir_, state_));
  output_->attached().reply(state_.exit_code);
  input_.reset();
  terminal_.reset();
  pidfd_.reset();
  // output_ is what calls this: let it return first.
  context_.loop.defer([output = std::move(output_)] {});
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
    if (!removed) phase_ = Phase::exited;  // it can be tried again
    for (DoneStatus& remover : std::exchange(removers_, {})) remover(removed);
  });
}

}  // namespace keelson
