#include "monitor/pod/pod.h"

#include <csignal>

#include "monitor/handler/native_handler.h"
#include "monitor/handler/oci_handler.h"
#include "monitor/server/monitor_log.h"

namespace keelson {

namespace {

constexpr size_t max_pending_events = 64 << 10;
constexpr std::string_view init_lost_event = R"({"type":"init_lost"})";

}  // namespace

std::weak_ptr<Container> Pod::start(StartRequest request, std::optional<OciBinary> binary, Done<ContainerState> done) {
  std::string id = request.id;
  Status may = may_start(id);
  if (may && !request.pid_of.empty()) may = find_target(request);
  if (!may) {
    done(std::unexpected(about(std::move(may.error()), "container " + id)));
    return {};
  }
  auto handler = binary ? make_oci_handler(context_, id, request.bundle, binary->binary, binary->root)
                        : make_native_handler(context_);
  auto container =
      std::make_shared<Container>(context_, std::move(request), std::move(handler), exits_dir_, events());
  containers_.emplace(id, container);
  // The map holds the container for as long as it is starting.
  container->start([this, id, container = container.get(), done = std::move(done)](Status started) mutable {
    if (started) {
      done(container->state());
    } else {
      forget(id);
      done(std::unexpected(about(std::move(started.error()), "container " + id)));
    }
    settle_close();
  });
  return container;
}

Status Pod::find_target(StartRequest& request) const {
  const std::string step = "find the PID namespace of container " + request.pid_of;
  auto neighbour = find(request.pid_of);
  if (!neighbour) return fail(Kind::state, step, "the pod has no such container");
  TRY((*neighbour)->must_run(step));
  request.pid_target = TRY(PidTarget::resolve(request.pid_of, (*neighbour)->state().pid, request.bundle));
  return {};
}

Status Pod::may_start(const std::string& id) const {
  if (closed_) return fail(Kind::state, "start", "the pod is shutting down");
  if (containers_.contains(id)) return fail(Kind::exists, "start", "a container with this id already exists");
  if (context_.sandbox.spec.pid == Scope::pod && context_.sandbox.init_pid == 0) {
    return fail(Kind::state, "start", "the init of the pod's PID namespace has died; recreate the pod");
  }
  return {};
}

Container::Events Pod::events() {
  return {
      .exited =
          [this](const ContainerState& state) {
            JsonWriter json;
            json.begin_object().key("type").value("exited").key("container");
            write_state(json, state);
            json.end_object();
            tell_watchers(json.text());
          },
      .oom =
          [this](const std::string& id) {
            JsonWriter json;
            json.begin_object().key("type").value("oom").key("id").value(id).end_object();
            tell_watchers(json.text());
          },
  };
}

void Pod::forget(const std::string& id) {
  auto found = containers_.find(id);
  if (found == containers_.end()) return;
  // The caller may be a method of the container.
  context_.loop.defer([last = std::move(found->second)] {});
  containers_.erase(found);
}

Result<std::shared_ptr<Container>> Pod::find(std::string_view id) const {
  auto found = containers_.find(id);
  if (found == containers_.end()) {
    return fail(Kind::not_found, "find the container", "the pod has no container with this id");
  }
  return found->second;
}

void Pod::remove(std::string_view id, DoneStatus done) {
  auto container = find(id);
  if (!container) return done(std::unexpected(container.error()));
  (*container)->remove([this, name = std::string(id), done = std::move(done)](Status removed) mutable {
    if (removed) forget(name);
    done(std::move(removed));
  });
}

void Pod::close(Loop::Task then) {
  closed_ = true;
  when_none_starting_ = std::move(then);
  for (const auto& container : containers()) {
    container->abort_start({Kind::state, "start", {}, 0, "the pod is shutting down"});
  }
  settle_close();
}

void Pod::settle_close() {
  if (!when_none_starting_) return;
  for (const auto& [id, container] : containers_) {
    if (container->is_starting()) return;
  }
  Loop::Task then = std::exchange(when_none_starting_, nullptr);
  then();
}

void Pod::guard_init() {
  if (context_.sandbox.init_pid == 0) return;
  context_.reaper.expect(context_.sandbox.init_pid, [this](const ProcessExit& exit) {
    context_.sandbox.init_pid = 0;
    if (Loop::Task then = std::exchange(when_init_gone_, nullptr)) return then();
    // The kernel has also killed every process of the namespace; their exits are reported one by one.
    warn("the init of the pod's PID namespace died with exit code " + std::to_string(exit.code));
    init_lost_ = true;
    tell_watchers(init_lost_event);
  });
}

void Pod::end_init(Loop::Task then) {
  if (context_.sandbox.init_pid == 0) return then();
  when_init_gone_ = std::move(then);
  kill(context_.sandbox.init_pid, SIGKILL);
}

std::vector<std::shared_ptr<Container>> Pod::containers() const {
  std::vector<std::shared_ptr<Container>> all;
  for (const auto& [id, container] : containers_) all.push_back(container);
  return all;
}

void Pod::write_states(JsonWriter& json) const {
  json.begin_array();
  for (const auto& [id, container] : containers_) {
    if (!container->is_starting()) write_state(json, container->state());
  }
  json.end_array();
}

void Pod::watch(const std::shared_ptr<Connection>& client) {
  JsonWriter json;
  json.begin_object().key("type").value("state").key("containers");
  write_states(json);
  json.end_object();
  client->send(FrameType::event, json.text());
  if (init_lost_) client->send(FrameType::event, init_lost_event);
  watchers_.push_back(client);
}

void Pod::tell_watchers(std::string_view event) {
  std::erase_if(watchers_, [&](const std::weak_ptr<Connection>& held) {
    auto client = held.lock();
    if (!client || !client->open_for_frames()) return true;
    client->send(FrameType::event, event);
    if (client->pending() <= max_pending_events) return false;
    client->close();
    return true;
  });
}

namespace {

using namespace std::chrono_literals;

// A process that has not died this long after SIGKILL hangs in the kernel.
constexpr auto death_limit = 10s;
constexpr auto last_reply_limit = 2s;

}  // namespace

void Shutdown::begin(std::chrono::milliseconds grace, const std::shared_ptr<Connection>& client) {
  clients_.push_back(client);
  if (running_) return;
  running_ = true;
  first_failure_ = {};
  deadline_ = context_.loop.after(grace + death_limit, [this] {
    fail_all(Error{Kind::timeout, "kill the pod's processes", "pod " + context_.sandbox.spec.id, 0,
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
  deadline_.cancel();  // the next steps have their own limits
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
    fail_all(Error{Kind::timeout, "kill the init of the PID namespace", "pod " + context_.sandbox.spec.id, 0,
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
