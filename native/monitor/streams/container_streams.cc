#include "monitor/streams/container_streams.h"

#include <algorithm>

#include "monitor/pod/container.h"

namespace keelson {

namespace {

using namespace std::chrono_literals;

constexpr auto end_limit = 1s;
// Shorter than the time that a pod's shutdown waits for its containers.
constexpr auto log_limit = 5s;
// How long the output is paused for a client that reads nothing.
constexpr auto slow_client_limit = 30s;
// Two full pipes, each as large as a process may make it without privileges (pipe-max-size).
constexpr size_t max_last_output = 2 << 20;

}  // namespace

Status ContainerStreams::open(Fd terminal, StdioPipes pipes, bool with_input) {
  if (terminal) {
    Result<Fd> copy = duplicate(terminal, "the terminal");
    held_slave_ = open_slave(terminal);
    read_output(std::move(terminal), Fd());
    terminal_ = TRY(std::move(copy));
    return with_input ? open_input(TRY(duplicate(terminal_, "the terminal")), InputPipe::Target::terminal) : Status{};
  }
  read_output(std::move(pipes.out), std::move(pipes.err));
  return with_input ? open_input(std::move(pipes.in), InputPipe::Target::pipe) : Status{};
}

void ContainerStreams::read_output(Fd out, Fd err) {
  ask_reader([weak = weak_from_this(), out = std::move(out), err = std::move(err)](OutputReader& reader) mutable {
    reader.begin(std::move(weak), std::move(out), std::move(err));
  });
}

void ContainerStreams::ask_reader(std::move_only_function<void(OutputReader&)> work) {
  thread_.post([reader = reader_, work = std::move(work)]() mutable { work(*reader); });
}

Status ContainerStreams::open_input(Fd fd, InputPipe::Target target) {
  input_ = TRY(InputPipe::open(loop_, std::move(fd), target, [this] { attached_.resume_input(*input_); }));
  return {};
}

Status ContainerStreams::resize(uint16_t columns, uint16_t rows) {
  if (!terminal_) return fail(Kind::state, "resize the terminal", "the container has no terminal");
  return resize_terminal(terminal_.get(), columns, rows);
}

void ContainerStreams::reopen_log(DoneStatus done) {
  ask_reader([&monitor = loop_, done = std::move(done)](OutputReader& reader) mutable {
    monitor.post([done = std::move(done), opened = reader.reopen_log()]() mutable { done(std::move(opened)); });
  });
}

void ContainerStreams::attach(std::weak_ptr<Connection> client, bool has_input) {
  attached_.add(std::move(client), has_input);
  ask_reader([](OutputReader& reader) { reader.forward_output(true); });
}

// The reader is paused until resume_reader().
void ContainerStreams::on_output(Stream stream, std::string_view bytes) {
  attached_.send(stream == Stream::out ? FrameType::stdout_bytes : FrameType::stderr_bytes, bytes, ending_);
  if (!ending_ && attached_.blocks_output()) pause_output();
  else resume_reader();
}

void ContainerStreams::resume_reader() {
  ask_reader([is_forwarding = !attached_.none_connected()](OutputReader& reader) {
    reader.forward_output(is_forwarding);
    reader.resume();
  });
}

void ContainerStreams::pause_output() {
  is_output_paused_ = true;
  ask_reader([](OutputReader& reader) { reader.widen(); });
  slow_client_timer_ = loop_.after(slow_client_limit, [this] {
    attached_.detach_blocking();
    resume_output();
  });
}

void ContainerStreams::resume_output() {
  if (!is_output_paused_ || (!ending_ && attached_.blocks_output())) return;
  is_output_paused_ = false;
  slow_client_timer_.cancel();
  resume_reader();
}

void ContainerStreams::finish(std::move_only_function<void(bool)> on_end) {
  held_slave_.reset();
  ending_ = true;
  on_end_ = std::move(on_end);
  resume_output();
  ask_reader([](OutputReader& reader) { reader.finish(); });
  output_deadline_ = loop_.after(end_limit, [this] { ask_reader([](OutputReader& reader) { reader.close(); }); });
  log_deadline_ = loop_.after(log_limit, [this] { end(false); });
}

void ContainerStreams::end(bool is_log_complete) {
  if (!on_end_) return;
  output_deadline_.cancel();
  log_deadline_.cancel();
  std::exchange(on_end_, nullptr)(is_log_complete);
}

namespace {

// One client's input.
class Attach : public Call {
 public:
  Attach(Connection& client, std::shared_ptr<Container> container, bool with_input)
      : client_(client), container_(std::move(container)), with_input_(with_input) {}
  ~Attach() override { leave(); }  // also for a client that was disconnected

  void on_stdin(std::string_view bytes) override {
    if (InputPipe* input = with_input_ ? container_->input() : nullptr) input->write_from(client_, bytes);
  }

  void on_stdin_close() override { end_input(); }
  void on_resize(uint16_t columns, uint16_t rows) override { (void)container_->resize(columns, rows); }
  void on_room() override { container_->resume_output(); }
  void on_closed() override { leave(); }

 private:
  // A terminal's input outlives its clients: after a lost connection, kubectl suggests to attach again.
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

void AttachedClients::add(std::weak_ptr<Connection> client, bool has_input) {
  // send() removes disconnected clients only when the container writes.
  std::erase_if(clients_, [](const Client& held) { return held.connection.expired(); });
  clients_.push_back({std::move(client), has_input});
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

bool AttachedClients::blocks_output() const {
  return std::ranges::any_of(clients_, [](const Client& held) {
    auto client = held.has_input ? held.connection.lock() : nullptr;
    return client && client->open_for_frames() && !client->has_room();
  });
}

void AttachedClients::detach_blocking() {
  for (const Client& held : std::vector(clients_)) {
    auto client = held.has_input ? held.connection.lock() : nullptr;
    if (client && client->open_for_frames() && !client->has_room()) detach_slow(*client);
  }
}

bool AttachedClients::none_connected() const {
  return std::ranges::all_of(clients_, [](const Client& held) { return held.connection.expired(); });
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
