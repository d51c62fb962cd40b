#include "monitor/streams/attach.h"

#include <algorithm>

#include "monitor/pod/container.h"

namespace keelson {

namespace {

// One client's input.
class Attach : public Call {
 public:
  Attach(Connection& client, std::shared_ptr<Container> container, bool with_input)
      : client_(client), container_(std::move(container)), with_input_(with_input) {}
  ~Attach() override { end_input(); }  // also for a client that was cut off

  void on_stdin(std::string_view bytes) override {
    InputPipe* input = with_input_ ? container_->input() : nullptr;
    if (input == nullptr) return;
    input->write(bytes);
    if (!input->has_room()) client_.pause_input(true);
  }

  void on_stdin_close() override { end_input(); }
  void on_resize(uint16_t columns, uint16_t rows) override { (void)container_->resize(columns, rows); }
  void on_closed() override { end_input(); }

 private:
  void end_input() {
    InputPipe* input = container_->input();
    if (with_input_ && container_->input_once() && input != nullptr) input->end();
    with_input_ = false;
  }

  Connection& client_;  // owns this
  std::shared_ptr<Container> container_;
  bool with_input_;
};

}  // namespace

void AttachedClients::send(FrameType type, std::string_view bytes) {
  std::erase_if(clients_, [&](const std::weak_ptr<Connection>& held) {
    auto client = held.lock();
    if (!client || !client->open_for_frames()) return true;
    std::string_view rest = bytes;
    while (!rest.empty()) {
      if (!client->has_room()) {
        client->fail_with(Error{Kind::busy, "attach", {}, 0, "the client reads too slowly and was detached"});
        return true;
      }
      client->send(type, rest.substr(0, max_bytes_payload));
      rest.remove_prefix(std::min(rest.size(), max_bytes_payload));
    }
    return false;
  });
}

void AttachedClients::resume_input(const InputPipe& input) const {
  auto clients = clients_;  // a resumed client may detach
  for (const auto& held : clients) {
    if (auto client = held.lock(); client && input.has_room()) client->pause_input(false);
  }
}

void AttachedClients::reply(int exit_code) const {
  JsonWriter json;
  json.begin_object().key("exit_code").value(exit_code).end_object();
  for (const auto& held : clients_) {
    if (auto client = held.lock()) client->reply(json.text());
  }
}

Status attach(const std::shared_ptr<Connection>& client, std::shared_ptr<Container> container, bool with_input) {
  TRY(container->must_run("attach"));
  client->started(container->state().pid);
  client->set_call(std::make_shared<Attach>(*client, container, with_input));
  return container->attach(client);
}

}  // namespace keelson
