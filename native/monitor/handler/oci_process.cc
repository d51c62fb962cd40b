#include "monitor/handler/oci_process.h"

#include <fcntl.h>
#include <unistd.h>

#include "monitor/pod/container.h"

namespace keelson {

namespace {

constexpr size_t max_config = 4 << 20;

void copy(JsonWriter& to, const Json& from) {
  switch (from.type()) {
    case Json::Type::null: break;  // left out by the callers
    case Json::Type::boolean: to.value(from.boolean()); break;
    case Json::Type::integer: to.value(from.integer()); break;
    case Json::Type::real: to.value(static_cast<int64_t>(from.real())); break;  // `process` has no fractions
    case Json::Type::string: to.value(from.string()); break;
    case Json::Type::array:
      to.begin_array();
      for (const Json& item : from.items()) copy(to, item);
      to.end_array();
      break;
    case Json::Type::object:
      to.begin_object();
      for (const auto& [name, value] : from.members()) {
        if (value.is_null()) continue;
        to.key(name);
        copy(to, value);
      }
      to.end_object();
      break;
  }
}

std::string exec_process(const Json& process, const ExecOrder& order) {
  JsonWriter json;
  json.begin_object();
  for (const auto& [name, value] : process.members()) {
    if (name == "args" || name == "terminal" || name == "consoleSize" || value.is_null()) continue;
    json.key(name);
    copy(json, value);
  }
  json.key("args").begin_array();
  for (const std::string& argument : order.args) json.value(argument);
  json.end_array();
  json.key("terminal").value(order.terminal);
  if (order.terminal && order.columns > 0) {
    json.key("consoleSize").begin_object();
    json.key("height").value(static_cast<int>(order.rows)).key("width").value(static_cast<int>(order.columns));
    json.end_object();
  }
  json.end_object();
  return json.take();
}

}  // namespace

Status write_exec_process(const std::string& config_path, const std::string& path, const ExecOrder& order) {
  auto text = read_file(config_path, max_config);
  if (!text) return std::unexpected(text.error());
  auto config = parse_json(*text);
  if (!config) return std::unexpected(config.error());
  std::string process = exec_process((*config)["process"], order);
  Fd file(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file) return fail_errno("create " + path);
  ssize_t written = write(file.get(), process.data(), process.size());
  if (written == static_cast<ssize_t>(process.size())) return {};
  int error = written < 0 ? errno : ENOSPC;
  unlink(path.c_str());
  return fail_errno("write " + path, error);
}

}  // namespace keelson
