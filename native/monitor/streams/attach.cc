#include "monitor/streams/attach.h"

namespace keelson {

namespace {

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

Status attach(const std::shared_ptr<Connection>& client, std::shared_ptr<Container> container, bool with_input) {
  if (Status runs = container->must_run("attach"); !runs) return runs;
  JsonWriter started;
  started.begin_object().key("pid").value(static_cast<int64_t>(container->state().pid)).end_object();
  client->send(FrameType::started, started.text());
  client->set_call(std::make_shared<Attach>(*client, container, with_input));
  return container->attach(client);
}

}  // namespace keelson
