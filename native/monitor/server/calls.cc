#include "monitor/server/calls.h"

#include <unistd.h>

#include "monitor/streams/container_streams.h"
#include "monitor/streams/exec_session.h"
#include "monitor/streams/port_forward.h"

namespace keelson {

namespace {

using Client = std::shared_ptr<Connection>;

constexpr int64_t year_ms = int64_t{366} * 24 * 3600 * 1000;

std::unexpected<Error> refuse(std::string detail) { return fail(Kind::invalid, "read the request", std::move(detail)); }

bool is_id_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
}

// Empty if the path is missing and not required.
Result<std::string> parse_path(const Json& request, std::string_view name, bool required) {
  const Json& value = request[name];
  if (value.is_null() && !required) return std::string();
  std::string_view path = value.string();
  if (path.empty() || path[0] != '/' || path.find('\0') != path.npos) {
    return refuse("`" + std::string(name) + "` must be an absolute path");
  }
  return std::string(path);
}

// An id becomes a file name, so it must not start with '.'.
Result<std::string> parse_name(const Json& request, std::string_view name) {
  std::string_view id = request[name].string();
  bool good = !id.empty() && id.size() <= 128 && id[0] != '.';
  for (char c : id) good = good && is_id_character(c);
  if (!good) return refuse("`" + std::string(name) + "` must be 1 to 128 letters, digits, '_', '.', '-'");
  return std::string(id);
}

Result<int> parse_signal(const Json& request) {
  int64_t signal = request["signal"].integer();
  if (signal < 1 || signal > 64) return refuse("`signal` must be a number from 1 to 64");
  return static_cast<int>(signal);
}

// Missing is 0.
Result<std::chrono::milliseconds> parse_limit(const Json& request, std::string_view name) {
  int64_t limit = request[name].integer();
  if (limit < 0 || limit > year_ms) return refuse("`" + std::string(name) + "` must be 0 to one year in milliseconds");
  return std::chrono::milliseconds(limit);
}

// Missing is 0.
Result<uint16_t> parse_short(const Json& request, std::string_view name) {
  int64_t number = request[name].integer();
  if (number < 0 || number > 65535) return refuse("`" + std::string(name) + "` must be a number from 0 to 65535");
  return static_cast<uint16_t>(number);
}

Result<StartRequest> parse_start(const Json& request) {
  StartRequest start;
  start.id = TRY(parse_name(request, "id"));
  start.bundle = TRY(parse_path(request, "bundle", true));
  start.log_path = TRY(parse_path(request, "log_path", false));
  start.seccomp_filter_path = TRY(parse_path(request, "seccomp_bpf", false));
  start.input = request["stdin"].boolean();
  start.input_once = request["stdin_once"].boolean();
  if (!request["pid_of"].is_null()) start.pid_of = TRY(parse_name(request, "pid_of"));
  return start;
}

// nullopt: the native handler.
Result<std::optional<OciBinary>> parse_handler(const Json& handler) {
  if (handler.is_null()) return std::nullopt;
  OciBinary oci;
  oci.binary = TRY(parse_path(handler, "binary", true));
  oci.root = TRY(parse_path(handler, "root", true));
  return oci;
}

Result<ExecRequest> parse_exec(const Json& request) {
  ExecRequest exec;
  for (const Json& argument : request["args"].items()) {
    if (!argument.is_string() || argument.string().find('\0') != std::string_view::npos) {
      return refuse("`args` must be strings without NUL");
    }
    exec.command.args.emplace_back(argument.string());
  }
  if (exec.command.args.empty()) return refuse("`args` is empty");
  exec.command.terminal = request["tty"].boolean();
  exec.command.columns = TRY(parse_short(request, "columns"));
  exec.command.rows = TRY(parse_short(request, "rows"));
  exec.input = request["stdin"].boolean();
  exec.brief = request["brief"].boolean();
  exec.limit = TRY(parse_limit(request, "timeout_ms"));
  return exec;
}

// A start must not succeed after its caller has disconnected and can no longer receive the result.
struct StartCaller : Call {
  std::weak_ptr<Container> container;
  void on_closed() override {
    if (auto starting = container.lock()) {
      starting->abort_start({Kind::state, "start", {}, 0, "the caller disconnected"});
    }
  }
};

void answer(Connection& client, const Container& container, Status status) {
  if (status) client.reply("{}");
  else client.fail_with(about(std::move(status.error()), "container " + container.id()));
}

// The container named in the request.
Result<std::shared_ptr<Container>> find(const Monitor& monitor, const Json& request) {
  const std::string id = TRY(parse_name(request, "id"));
  return about(monitor.pod.find(id), "container " + id);
}

// The calls. Each either replies to `client`, now or later, or returns an error that Calls::handle sends.

Status hello(const Monitor& monitor, const Client& client, const Json&) {
  const Sandbox& sandbox = monitor.context.sandbox;
  JsonWriter json;
  json.begin_object();
  json.key("version").value(KEELSON_VERSION);
  json.key("protocol").value(protocol_version);
  json.key("pid").value(getpid());
  json.key("pod").value(sandbox.spec.id);
  if (sandbox.init_pid != 0) json.key("init_pid").value(sandbox.init_pid);
  json.end_object();
  client->reply(json.text());
  return {};
}

Status state(const Monitor& monitor, const Client& client, const Json&) {
  JsonWriter json;
  json.begin_object().key("containers");
  monitor.pod.write_states(json);
  json.end_object();
  client->reply(json.text());
  return {};
}

Status start(const Monitor& monitor, const Client& client, const Json& request) {
  StartRequest start = TRY(parse_start(request));
  std::optional<OciBinary> binary = TRY(parse_handler(request["handler"]));
  auto waiting = std::make_shared<StartCaller>();
  client->set_call(waiting);
  waiting->container = monitor.pod.start(std::move(start), std::move(binary), [client](Result<ContainerState> started) {
    if (started) client->reply(state_json(*started));
    else client->fail_with(started.error());
  });
  if (client->peer_is_gone()) waiting->on_closed();
  return {};
}

Status stop(const Monitor& monitor, const Client& client, const Json& request) {
  const int signal = TRY(parse_signal(request));
  const auto limit = TRY(parse_limit(request, "timeout_ms"));
  const auto container = TRY(find(monitor, request));
  container->stop(signal, limit, [client, container](Result<ContainerState> state) {
    if (state) client->reply(state_json(*state));
    else answer(*client, *container, std::unexpected(std::move(state.error())));
  });
  return {};
}

Status kill(const Monitor& monitor, const Client& client, const Json& request) {
  const int signal = TRY(parse_signal(request));
  const auto container = TRY(find(monitor, request));
  container->kill(signal, [client, container](Status sent) { answer(*client, *container, std::move(sent)); });
  return {};
}

Status remove(const Monitor& monitor, const Client& client, const Json& request) {
  const auto container = TRY(find(monitor, request));
  monitor.pod.remove(container->id(), [client, container](Status removed) {
    answer(*client, *container, std::move(removed));
  });
  return {};
}

Status exec(const Monitor& monitor, const Client& client, const Json& request) {
  ExecRequest exec = TRY(parse_exec(request));
  const auto container = TRY(find(monitor, request));
  begin_exec(monitor.context, client, *container, std::move(exec));
  return {};
}

Status attach(const Monitor& monitor, const Client& client, const Json& request) {
  const auto container = TRY(find(monitor, request));
  return about(keelson::attach(client, container, request["stdin"].boolean()), "container " + container->id());
}

Status resize(const Monitor& monitor, const Client& client, const Json& request) {
  const uint16_t columns = TRY(parse_short(request, "columns"));
  const uint16_t rows = TRY(parse_short(request, "rows"));
  const auto container = TRY(find(monitor, request));
  answer(*client, *container, container->resize(columns, rows));
  return {};
}

Status reopen_log(const Monitor& monitor, const Client& client, const Json& request) {
  const auto container = TRY(find(monitor, request));
  container->reopen_log([client, container](Status opened) { answer(*client, *container, std::move(opened)); });
  return {};
}

Status update(const Monitor& monitor, const Client& client, const Json& request) {
  const auto container = TRY(find(monitor, request));
  answer(*client, *container, container->update(request["resources"]));
  return {};
}

Status network_sysctls(const Monitor& monitor, const Client& client, const Json& request) {
  TRY(set_network_sysctls(monitor.context.sandbox, read_sysctls(request["sysctls"])));
  client->reply("{}");
  return {};
}

Status port_forward(const Monitor& monitor, const Client& client, const Json& request) {
  const uint16_t port = TRY(parse_short(request, "port"));
  if (port == 0) return refuse("`port` must be 1 to 65535");
  keelson::port_forward(monitor.context, client, port);
  return {};
}

Status watch(const Monitor& monitor, const Client& client, const Json&) {
  monitor.pod.watch(client);
  return {};
}

Status shutdown(const Monitor& monitor, const Client& client, const Json& request) {
  monitor.shutdown.begin(TRY(parse_limit(request, "grace_ms")), client);
  return {};
}

}  // namespace

void Calls::handle(const Client& client, const Json& request) {
  struct Op {
    std::string_view name;
    Status (*call)(const Monitor&, const Client&, const Json&);
    bool is_stream = false;
  };
  static constexpr Op ops[] = {
      {"hello", hello},
      {"state", state},
      {"start", start},
      {"stop", stop},
      {"kill", kill},
      {"delete", remove},
      {"exec", exec, true},
      {"attach", attach, true},
      {"resize", resize},
      {"reopen_log", reopen_log},
      {"update", update},
      {"network_sysctls", network_sysctls},
      {"port_forward", port_forward, true},
      {"watch", watch},
      {"shutdown", shutdown},
  };
  std::string_view name = request["op"].string();
  for (const Op& op : ops) {
    if (op.name != name) continue;
    Status called = op.is_stream ? take_stream(*client, request["brief"].boolean()) : Status{};
    if (called) called = op.call(monitor_, client, request);
    if (!called) client->fail_with(called.error());
    return;
  }
  client->fail_with(Error{Kind::protocol, "read the request", {}, 0, "`op` is not a call of this version"});
}

Status Calls::take_stream(Connection& client, bool is_brief) {
  const long limit = is_brief ? Server::max_streams : Server::max_streams - Server::kept_for_brief;
  if (streams_.use_count() > limit) {
    return fail(Kind::busy, "open a stream",
                std::to_string(limit) + " streams (exec, attach, port_forward) are already open");
  }
  client.hold(streams_);
  return {};
}

}  // namespace keelson
