#include "monitor/server/calls.h"

#include <unistd.h>

#include "monitor/streams/attach.h"
#include "monitor/streams/exec_session.h"
#include "monitor/streams/port_forward.h"
#include "monitor/server/requests.h"

namespace keelson {

namespace {

using Client = std::shared_ptr<Connection>;

void answer(const Client& client, const Status& status) {
  if (status) client->reply("{}");
  else client->fail_with(status.error());
}

// A start is for its caller: it must not succeed when nobody is there any more to be told.
struct StartCaller : Call {
  std::weak_ptr<Container> container;
  void on_closed() override {
    if (auto starting = container.lock()) {
      starting->abort_start({Kind::state, "start", {}, 0, "its caller has gone"});
    }
  }
};

// The container that the request names, or null with the ERROR sent.
std::shared_ptr<Container> find(const Pod& pod, const Client& client, const Json& request) {
  auto id = parse_id(request);
  if (!id) {
    client->fail_with(id.error());
    return nullptr;
  }
  auto container = pod.find(*id);
  if (container) return *container;
  client->fail_with(about(container.error(), "container " + *id).error());
  return nullptr;
}

void answer_about(const Client& client, const Container& container, const Status& status) {
  answer(client, status ? status : about(status.error(), "container " + container.id()));
}

}  // namespace

void Calls::handle(const Client& client, const Json& request) {
  struct Op {
    std::string_view name;
    void (Calls::*call)(const Client&, const Json&);
    bool is_stream = false;
  };
  static constexpr Op ops[] = {
      {"hello", &Calls::hello},           {"state", &Calls::state},
      {"start", &Calls::start},           {"stop", &Calls::stop},
      {"kill", &Calls::kill},             {"delete", &Calls::remove},
      {"exec", &Calls::exec, true},             {"attach", &Calls::attach, true},
      {"resize", &Calls::resize},         {"reopen_log", &Calls::reopen_log},
      {"update", &Calls::update},         {"port_forward", &Calls::port_forward, true},
      {"watch", &Calls::watch},           {"shutdown", &Calls::shutdown},
  };
  std::string_view name = request["op"].string();
  for (const Op& op : ops) {
    if (op.name != name) continue;
    if (Status taken = op.is_stream ? take_stream(client) : Status{}; !taken) return client->fail_with(taken.error());
    return (this->*op.call)(client, request);
  }
  client->fail_with(Error{Kind::protocol, "read the request", {}, 0, "`op` names no call of this version"});
}

Status Calls::take_stream(const Client& client) {
  if (streams_.use_count() > Server::max_streams) {
    return fail(Kind::busy, "begin a stream",
                std::to_string(Server::max_streams) + " of exec, attach and port_forward are open already");
  }
  client->hold(streams_);
  return {};
}

void Calls::hello(const Client& client, const Json&) {
  JsonWriter json;
  json.begin_object();
  json.key("version").value(KEELSON_VERSION);
  json.key("protocol").value(static_cast<int>(protocol_version));
  json.key("pid").value(static_cast<int64_t>(getpid()));
  json.key("pod").value(context_.sandbox.spec.id);
  if (context_.sandbox.init_pid != 0) json.key("init_pid").value(static_cast<int64_t>(context_.sandbox.init_pid));
  json.end_object();
  client->reply(json.text());
}

void Calls::state(const Client& client, const Json&) {
  JsonWriter json;
  json.begin_object().key("containers");
  pod_.write_states(json);
  json.end_object();
  client->reply(json.text());
}

void Calls::start(const Client& client, const Json& request) {
  auto call = parse_start(request);
  if (!call) return client->fail_with(call.error());
  auto waiting = std::make_shared<StartCaller>();
  client->set_call(waiting);
  waiting->container =
      pod_.start(std::move(call->request), std::move(call->binary), [client](Result<ContainerState> started) {
        if (started) client->reply(state_json(*started));
        else client->fail_with(started.error());
      });
  if (client->peer_is_gone()) waiting->on_closed();
}

void Calls::stop(const Client& client, const Json& request) {
  auto signal = parse_signal(request);
  if (!signal) return client->fail_with(signal.error());
  auto limit = parse_limit(request, "timeout_ms");
  if (!limit) return client->fail_with(limit.error());
  auto container = find(pod_, client, request);
  if (!container) return;
  container->stop(*signal, *limit, [client, container](const Result<ContainerState>& state) {
    if (state) client->reply(state_json(*state));
    else answer_about(client, *container, std::unexpected(state.error()));
  });
}

void Calls::kill(const Client& client, const Json& request) {
  auto signal = parse_signal(request);
  if (!signal) return client->fail_with(signal.error());
  auto container = find(pod_, client, request);
  if (!container) return;
  container->kill(*signal, [client, container](Status sent) { answer_about(client, *container, sent); });
}

void Calls::remove(const Client& client, const Json& request) {
  auto container = find(pod_, client, request);
  if (!container) return;
  pod_.remove(container->id(), [client, container](Status removed) { answer_about(client, *container, removed); });
}

void Calls::exec(const Client& client, const Json& request) {
  auto call = parse_exec(request);
  if (!call) return client->fail_with(call.error());
  auto container = find(pod_, client, request);
  if (container) keelson::exec(context_, client, *container, std::move(*call));
}

void Calls::attach(const Client& client, const Json& request) {
  auto container = find(pod_, client, request);
  if (!container) return;
  Status attached = keelson::attach(client, container, request["stdin"].boolean());
  if (!attached) answer_about(client, *container, attached);
}

void Calls::resize(const Client& client, const Json& request) {
  auto columns = parse_short(request, "columns");
  if (!columns) return client->fail_with(columns.error());
  auto rows = parse_short(request, "rows");
  if (!rows) return client->fail_with(rows.error());
  auto container = find(pod_, client, request);
  if (container) answer_about(client, *container, container->resize(*columns, *rows));
}

void Calls::reopen_log(const Client& client, const Json& request) {
  auto container = find(pod_, client, request);
  if (container) answer_about(client, *container, container->reopen_log());
}

void Calls::update(const Client& client, const Json& request) {
  auto container = find(pod_, client, request);
  if (container) answer_about(client, *container, container->update(request["resources"]));
}

void Calls::port_forward(const Client& client, const Json& request) {
  auto port = parse_short(request, "port");
  if (!port) return client->fail_with(port.error());
  if (*port == 0) return client->fail_with(Error{Kind::invalid, "read the request", {}, 0, "`port` must be 1 to 65535"});
  keelson::port_forward(context_, client, *port);
}

void Calls::watch(const Client& client, const Json&) { pod_.watch(client); }

void Calls::shutdown(const Client& client, const Json& request) {
  auto grace = parse_limit(request, "grace_ms");
  if (!grace) return client->fail_with(grace.error());
  shutdown_.begin(*grace, client);
}

}  // namespace keelson
