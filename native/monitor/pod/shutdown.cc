#include "monitor/pod/shutdown.h"

#include <csignal>

namespace keelson {

namespace {

using namespace std::chrono_literals;

// A process that SIGKILL does not end within this time hangs in the kernel.
constexpr auto death_limit = 10s;
constexpr auto last_reply_limit = 2s;

}  // namespace

void Shutdown::begin(std::chrono::milliseconds grace, const std::shared_ptr<Connection>& client) {
  clients_.push_back(client);
  if (running_) return;
  running_ = true;
  first_failure_ = {};
  deadline_ = context_.loop.after(grace + death_limit, [this] {
    fail_all(Error{Kind::timeout, "end the pod's processes", "pod " + context_.sandbox.spec.id, 0,
                   "some did not die within 10 s of SIGKILL"});
  });
  pod_.close([this, grace] { stop_containers(grace); });
}

void Shutdown::stop_containers(std::chrono::milliseconds grace) {
  auto containers = pod_.containers();
  left_ = containers.size() + 1;
  uint64_t attempt = ++attempt_;
  for (const auto& container : containers) {
    container->stop(SIGTERM, grace, [this, attempt](const Result<ContainerState>&) {
      if (attempt == attempt_) count_down(&Shutdown::remove_containers);
    });
  }
  count_down(&Shutdown::remove_containers);
}

void Shutdown::remove_containers() {
  auto containers = pod_.containers();
  left_ = containers.size() + 1;
  deadline_.cancel();  // what follows has limits of its own
  for (const auto& container : containers) {
    pod_.remove(container->id(), [this](Status removed) {
      if (!removed && first_failure_) first_failure_ = std::move(removed);
      count_down(&Shutdown::end_init);
    });
  }
  count_down(&Shutdown::end_init);
}

void Shutdown::end_init() {
  if (!first_failure_) return fail_all(first_failure_.error());
  deadline_ = context_.loop.after(death_limit, [this] {
    fail_all(Error{Kind::timeout, "end the init of the PID namespace", "pod " + context_.sandbox.spec.id, 0,
                   "it did not die within 10 s of SIGKILL"});
  });
  pod_.end_init([this] { take_down(); });
}

void Shutdown::take_down() {
  deadline_.cancel();
  Status destroyed = destroy_sandbox(context_.sandbox, context_.cgroups);
  if (!destroyed) return fail_all(destroyed.error());
  server_.stop_listening();
  size_t unsent = 0;
  for (const auto& held : clients_) {
    auto client = held.lock();
    if (!client) continue;
    client->reply("{}");
    unsent += client->pending();
  }
  if (unsent == 0) return context_.loop.stop();
  deadline_ = context_.loop.after(last_reply_limit, [this] { context_.loop.stop(); });
}

void Shutdown::count_down(void (Shutdown::*next)()) {
  if (--left_ == 0) (this->*next)();
}

void Shutdown::fail_all(const Error& error) {
  running_ = false;
  ++attempt_;
  deadline_.cancel();
  for (const auto& held : std::exchange(clients_, {})) {
    if (auto client = held.lock()) client->fail_with(error);
  }
}

}  // namespace keelson
