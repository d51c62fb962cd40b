#include "monitor/streams/container_streams.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>

#include "monitor/pod/container.h"
#include "monitor/server/monitor_log.h"

namespace keelson {

namespace {

using namespace std::chrono_literals;

constexpr auto end_limit = 1s;
// Less than a shutdown of the pod waits for its containers.
constexpr auto log_limit = 5s;
// For so long the output waits for a client that reads nothing.
constexpr auto patience = 30s;
// Two full pipes, each as large as a process may make it without privileges (pipe-max-size).
constexpr size_t max_last_output = 2 << 20;
// A pipe is emptied by a few reads; who fills it meanwhile is not the init and must not keep the loop here.
constexpr int max_reads_after_exit = 64;
constexpr Stream both[] = {Stream::out, Stream::err};

}  // namespace

ContainerStreams::ContainerStreams(Loop& loop, std::unique_ptr<Log> log) : loop_(loop), log_(std::move(log)) {
  if (log_) log_->on_progress([this] { on_log_progress(); });
}

Status ContainerStreams::open(Fd terminal, StdioPipes pipes, bool with_input) {
  if (!terminal) {
    TRY(open_output(std::move(pipes.out), std::move(pipes.err)));
    return with_input ? open_input(std::move(pipes.in), InputPipe::Target::pipe) : Status{};
  }
  Result<Fd> copy = duplicate(terminal, "the terminal");
  held_slave_ = open_slave(terminal);
  TRY(open_output(std::move(terminal), Fd()));
  terminal_ = TRY(std::move(copy));
  return with_input ? open_input(TRY(duplicate(terminal_, "the terminal")), InputPipe::Target::terminal) : Status{};
}

Status ContainerStreams::open_output(Fd out, Fd err) {
  sources_[0].fd = std::move(out);
  sources_[1].fd = std::move(err);
  for (Stream stream : both) {
    Source& source = sources_[static_cast<size_t>(stream)];
    if (!source.fd) continue;
    source.watch = TRY(loop_.watch(source.fd.get(), EPOLLIN, [this, stream](uint32_t) { read_some(stream); }));
  }
  return {};
}

Status ContainerStreams::open_input(Fd fd, InputPipe::Target target) {
  input_ = TRY(InputPipe::open(loop_, std::move(fd), target, [this] { attached_.resume_input(*input_); }));
  return {};
}

Status ContainerStreams::resize(uint16_t columns, uint16_t rows) {
  if (!terminal_) return fail(Kind::state, "resize the terminal", "the container has none");
  return resize_terminal(terminal_.get(), columns, rows);
}

void ContainerStreams::reopen_log(DoneStatus done) {
  if (!log_) return done(fail(Kind::state, "reopen the log", "the container has none"));
  log_->reopen(std::move(done));
}

// One batch; false when there is nothing more to read now.
bool ContainerStreams::read_some(Stream stream) {
  Source& source = sources_[static_cast<size_t>(stream)];
  if (!source.fd || must_wait()) return false;
  char* buffer = loop_.buffer().data();
  // Who is waited for gets no more than it has room for.
  const size_t wanted = attached_.any_types() ? max_bytes_payload : ReadBuffer::size;
  ssize_t count = read(source.fd.get(), buffer, wanted);
  if (count < 0 && errno == EINTR) return true;
  if (count < 0 && errno == EAGAIN) return false;
  if (count <= 0) {  // a terminal's master says EIO while no slave is open
    close(stream);
    check_end();
    return false;
  }
  std::string_view bytes(buffer, static_cast<size_t>(count));
  source.width.follow(source.fd.get(), bytes.size());
  if (log_) log_->write(stream, bytes, now_ns());
  attached_.send(stream == Stream::out ? FrameType::stdout_bytes : FrameType::stderr_bytes, bytes, ending_);
  return true;
}

bool ContainerStreams::must_wait() {
  // What a container leaves in its pipes may wait in memory, so that the end of one that wrote nothing needs no room.
  waits_for_log_ = log_ && !log_->has_room(ending_ ? ReadBuffer::size : 0);
  if (!ending_ && attached_.hold_up_output()) wait_for_client();
  if (!waits_for_log_ && !waits_for_client_) return false;
  for (Source& source : sources_) {
    if (source.fd) source.width.widen(source.fd.get());
  }
  follow_output();
  return true;
}

void ContainerStreams::wait_for_client() {
  if (waits_for_client_) return;
  waits_for_client_ = true;
  patience_ = loop_.after(patience, [this] {
    attached_.detach_those();
    resume_output();
  });
}

void ContainerStreams::resume_output() {
  if (!waits_for_client_ || attached_.hold_up_output()) return;
  waits_for_client_ = false;
  patience_.cancel();
  follow_output();
}

void ContainerStreams::follow_output() {
  const uint32_t events = waits_for_client_ || waits_for_log_ ? 0u : EPOLLIN;
  for (Source& source : sources_) {
    if (source.fd) source.watch.want(events);
  }
}

void ContainerStreams::on_log_progress() {
  if (waits_for_log_ && log_->has_room()) {
    waits_for_log_ = false;
    follow_output();
    if (ending_) read_rest();
    if (has_read_rest_ && !waits_for_log_) close_output();
  }
  check_end();
}

void ContainerStreams::finish(Loop::Task on_end) {
  held_slave_.reset();
  ending_ = true;
  waits_for_client_ = false;
  patience_.cancel();
  follow_output();
  for (Source& source : sources_) source.reads_after_exit = max_reads_after_exit;
  read_rest();
  on_end_ = std::move(on_end);
  output_deadline_ = loop_.after(end_limit, [this] {
    has_read_rest_ = true;
    if (!waits_for_log_) close_output();
    check_end();
  });
  log_deadline_ = loop_.after(log_limit, [this] {
    if (log_) log_->give_up();
    close_output();
    check_end();
  });
  check_end();
}

void ContainerStreams::read_rest() {
  for (Stream stream : both) {
    int& left = sources_[static_cast<size_t>(stream)].reads_after_exit;
    while (left > 0 && read_some(stream)) --left;
  }
}

void ContainerStreams::close_output() {
  for (Stream stream : both) close(stream);
}

void ContainerStreams::close(Stream stream) {
  Source& source = sources_[static_cast<size_t>(stream)];
  if (!source.fd) return;
  source.watch.stop();
  source.fd.reset();
  if (log_) log_->end(stream, now_ns());
}

void ContainerStreams::check_end() {
  if (sources_[0].fd || sources_[1].fd || !on_end_) return;
  output_deadline_.cancel();
  if (log_ && !log_->is_flushed()) return;
  log_deadline_.cancel();
  Loop::Task on_end = std::exchange(on_end_, nullptr);
  on_end();
}

namespace {

// One client's input.
class Attach : public Call {
 public:
  Attach(Connection& client, std::shared_ptr<Container> container, bool with_input)
      : client_(client), container_(std::move(container)), with_input_(with_input) {}
  ~Attach() override { leave(); }  // also for a client that was cut off

  void on_stdin(std::string_view bytes) override {
    if (InputPipe* input = with_input_ ? container_->input() : nullptr) input->write_from(client_, bytes);
  }

  void on_stdin_close() override { end_input(); }
  void on_resize(uint16_t columns, uint16_t rows) override { (void)container_->resize(columns, rows); }
  void on_room() override { container_->resume_output(); }
  void on_closed() override { leave(); }

 private:
  // A terminal's input outlives its clients: kubectl tells whom it lost to attach again.
  void leave() {
    if (!container_->state().tty) end_input();
    container_->resume_output();
  }
  void end_input() {
    InputPipe* input = container_->input();
    if (with_input_ && container_->input_once() && input != nullptr) input->end();
    with_input_ = false;
  }

  Connection& client_;  // owns this
  std::shared_ptr<Container> container_;
  bool with_input_;
};

void detach_slow(Connection& client) {
  client.cut_off(Error{Kind::busy, "attach", {}, 0, "the client reads too slowly and was detached"});
}

}  // namespace

void AttachedClients::add(std::weak_ptr<Connection> client, bool types) {
  // Of a container that writes nothing, no output takes them out.
  std::erase_if(clients_, [](const Client& held) { return held.connection.expired(); });
  clients_.push_back({std::move(client), types});
}

void AttachedClients::send(FrameType type, std::string_view bytes, bool is_last) {
  std::erase_if(clients_, [&](const Client& held) {
    auto client = held.connection.lock();
    if (!client || !client->open_for_frames()) return true;
    std::string_view rest = bytes;
    while (!rest.empty()) {
      if (!client->has_room() && !(is_last && client->pending() < max_last_output)) {
        detach_slow(*client);
        return true;
      }
      client->send(type, rest.substr(0, max_bytes_payload));
      rest.remove_prefix(std::min(rest.size(), max_bytes_payload));
    }
    return false;
  });
}

bool AttachedClients::hold_up_output() const {
  return std::ranges::any_of(clients_, [](const Client& held) {
    auto client = held.types ? held.connection.lock() : nullptr;
    return client && client->open_for_frames() && !client->has_room();
  });
}

void AttachedClients::detach_those() {
  for (const Client& held : std::vector(clients_)) {
    auto client = held.types ? held.connection.lock() : nullptr;
    if (client && client->open_for_frames() && !client->has_room()) detach_slow(*client);
  }
}

bool AttachedClients::any_types() const {
  return std::ranges::any_of(clients_, [](const Client& held) { return held.types && !held.connection.expired(); });
}

void AttachedClients::resume_input(const InputPipe& input) const {
  auto clients = clients_;  // a resumed client may detach
  for (const Client& held : clients) {
    if (auto client = held.connection.lock(); client && input.has_room()) client->pause_input(false);
  }
}

void AttachedClients::reply(int exit_code) const {
  JsonWriter json;
  json.begin_object().key("exit_code").value(exit_code).end_object();
  for (const Client& held : clients_) {
    if (auto client = held.connection.lock()) client->reply(json.text());
  }
}

Status attach(const std::shared_ptr<Connection>& client, std::shared_ptr<Container> container, bool with_input) {
  TRY(container->must_run("attach"));
  client->started(container->state().pid);
  client->set_call(std::make_shared<Attach>(*client, container, with_input));
  return container->attach(client, with_input);
}

}  // namespace keelson
