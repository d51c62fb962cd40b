#include "monitor/streams/exec_session.h"

#include <optional>

#include "monitor/setup/spawn.h"
#include "monitor/streams/stdio.h"

namespace keelson {

namespace {

using namespace std::chrono_literals;

constexpr auto drain_limit = 1s;
// Most probes have exited by then, so their callers are not woken for the start.
constexpr auto brief_limit = 50ms;
// How long a process may run after its terminal was hung up.
constexpr auto hang_up_limit = 5s;

class ExecSession : public Call, public std::enable_shared_from_this<ExecSession> {
 public:
  ExecSession(Context& context, Connection& client, ExecRequest request)
      : context_(context), client_(client), request_(std::move(request)) {}

  void begin(Container& container);

  void on_stdin(std::string_view bytes) override {
    if (!request_.input) return;
    if (!input_) {  // not started yet: keep this frame, and pause the socket
      early_input_ += bytes;
      return client_.pause_input(true);
    }
    input_->write_from(client_, bytes);
  }
  void on_stdin_close() override {
    if (input_) input_->end();
    else early_end_ = true;
  }
  void on_resize(uint16_t columns, uint16_t rows) override {
    if (terminal_) (void)resize_terminal(terminal_.get(), columns, rows);
  }
  void on_room() override {
    if (out_) out_->resume();
    if (err_) err_->resume();
  }
  void on_closed() override { terminal_ && pid_ != 0 ? hang_up() : abandon(); }

 private:
  void on_started(Started started, StdioPipes pipes);
  Status connect(Started started, StdioPipes pipes);
  Status open_input(Fd fd, InputPipe::Target target);
  Status open_output(std::optional<OutputPump>& pump, FrameType type, Fd fd);
  void on_time_limit();
  void on_exit(const ProcessExit& exit);
  void answer_when_drained();
  void hang_up();
  void abandon();

  Context& context_;
  Connection& client_;  // owns this, until it hangs up on a terminal
  ExecRequest request_;
  std::weak_ptr<Attempt> spawning_;
  pid_t pid_ = 0;  // 0 before the start and after the exit
  std::optional<ProcessExit> exit_;
  Fd terminal_;
  Fd held_slave_;  // until the exit
  std::unique_ptr<InputPipe> input_;
  std::optional<OutputPump> out_, err_;
  Loop::Timer limit_, drain_, report_start_;
  std::string early_input_;
  bool early_end_ = false;
};

void ExecSession::begin(Container& container) {
  StdioPipes pipes;
  if (!request_.command.terminal) {
    auto made = make_stdio_pipes(request_.input);
    if (!made) return client_.fail_with(made.error());
    pipes = std::move(*made);
  }
  if (request_.limit.count() > 0) limit_ = context_.loop.after(request_.limit, [this] { on_time_limit(); });
  Stdio theirs = std::move(pipes.theirs);
  // For the native handler this continues in setup/container_exec.cc, which spawns the process (setup/spawn.cc).
  spawning_ = container.exec(
      request_.command, std::move(theirs),
      [weak = weak_from_this(), pipes = std::move(pipes), name = container.id()](Result<Started> started) mutable {
        auto self = weak.lock();
        bool wanted = self && self->client_.open_for_frames();
        if (started && !wanted && started->pidfd) return kill_with_descendants(started->pid);
        if (!wanted) return;
        if (!started) return self->client_.fail_with(about(std::move(started.error()), "container " + name));
        self->on_started(std::move(*started), std::move(pipes));
      });
}

void ExecSession::on_started(Started started, StdioPipes pipes) {
  if (started.pidfd) pid_ = started.pid;
  context_.reaper.expect(started.pid, [weak = weak_from_this()](const ProcessExit& exit) {
    if (auto self = weak.lock()) self->on_exit(exit);
  });
  if (!request_.brief) client_.started(started.pid);
  else report_start_ = context_.loop.after(brief_limit, [this, pid = started.pid] { client_.started(pid); });
  if (Status connected = connect(std::move(started), std::move(pipes)); !connected) {
    abandon();
    return client_.fail_with(connected.error());
  }
  if (input_ && !early_input_.empty()) input_->write(std::exchange(early_input_, {}));
  if (input_ && early_end_) input_->end();
  client_.pause_input(false);
}

Status ExecSession::connect(Started started, StdioPipes pipes) {
  if (!started.sent) {
    TRY(open_output(out_, FrameType::stdout_bytes, std::move(pipes.out)));
    TRY(open_output(err_, FrameType::stderr_bytes, std::move(pipes.err)));
    return request_.input ? open_input(std::move(pipes.in), InputPipe::Target::pipe) : Status{};
  }
  terminal_ = TRY(duplicate(started.sent, "the terminal"));
  held_slave_ = open_slave(terminal_);
  if (request_.input) {
    Fd input = TRY(duplicate(terminal_, "the terminal"));
    TRY(open_input(std::move(input), InputPipe::Target::terminal));
  }
  return open_output(out_, FrameType::stdout_bytes, std::move(started.sent));
}

Status ExecSession::open_input(Fd fd, InputPipe::Target target) {
  input_ = TRY(InputPipe::open(context_.loop, std::move(fd), target, [this] { client_.pause_input(false); }));
  return {};
}

Status ExecSession::open_output(std::optional<OutputPump>& pump, FrameType type, Fd fd) {
  pump.emplace(context_.loop, client_, type, std::move(fd));
  return pump->open([this] { answer_when_drained(); });
}

void ExecSession::on_time_limit() {
  const bool has_started = spawning_.expired();
  const std::string limit = std::to_string(request_.limit.count()) + " ms";
  abandon();
  client_.fail_with(Error{Kind::timeout, "exec", {}, 0,
                          has_started ? "the process ran for more than " + limit + " and was killed"
                                      : "the process was not in the container after " + limit + " and was killed"});
}

void ExecSession::on_exit(const ProcessExit& exit) {
  pid_ = 0;
  exit_ = exit;
  held_slave_.reset();
  limit_.cancel();
  client_.expect_progress();
  drain_ = context_.loop.after(drain_limit, [this] {
    if (out_) out_->end_after_pending();
    if (err_) err_->end_after_pending();
  });
  answer_when_drained();
}

void ExecSession::answer_when_drained() {
  if (!exit_ || (out_ && !out_->ended()) || (err_ && !err_->ended())) return;
  JsonWriter json;
  json.begin_object().key("exit_code").value(exit_->code).key("signal").value(exit_->signal).end_object();
  client_.reply(json.text());
}

// When the master's last descriptor is closed, the kernel sends SIGHUP to the terminal's session, as if a modem had
// lost its line. A shell forwards it to its jobs; a job started with nohup keeps running.
void ExecSession::hang_up() {
  report_start_.cancel();
  input_.reset();
  out_.reset();
  held_slave_.reset();
  terminal_.reset();
  limit_ = context_.loop.after(hang_up_limit, [this] { abandon(); });
  // The connection is destroyed; the reaper keeps this alive until the process has exited.
  context_.reaper.expect(pid_, [self = shared_from_this()](const ProcessExit&) { self->pid_ = 0; });
}

void ExecSession::abandon() {
  limit_.cancel();
  drain_.cancel();
  report_start_.cancel();
  if (pid_ != 0) kill_with_descendants(pid_);
  if (auto spawning = spawning_.lock()) spawning->abort({Kind::state, "exec", {}, 0, "the caller has disconnected"});
}

}  // namespace

void begin_exec(Context& context, const std::shared_ptr<Connection>& client, Container& container, ExecRequest request) {
  auto session = std::make_shared<ExecSession>(context, *client, std::move(request));
  client->set_call(session);
  session->begin(container);
}

}  // namespace keelson
