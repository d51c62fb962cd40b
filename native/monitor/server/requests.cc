#include "monitor/server/requests.h"

namespace keelson {

namespace {

constexpr int64_t year_ms = int64_t{366} * 24 * 3600 * 1000;

std::unexpected<Error> refuse(std::string detail) { return fail(Kind::invalid, "read the request", std::move(detail)); }

bool is_id_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
}

// Empty when it is missing and may be.
Result<std::string> parse_path(const Json& request, std::string_view name, bool required) {
  const Json& value = request[name];
  if (value.is_null() && !required) return std::string();
  std::string_view path = value.string();
  if (path.empty() || path[0] != '/' || path.find('\0') != path.npos) {
    return refuse("`" + std::string(name) + "` must be an absolute path");
  }
  return std::string(path);
}

Result<std::string> parse_name(const Json& request, std::string_view name) {
  std::string_view id = request[name].string();
  bool good = !id.empty() && id.size() <= 128 && id[0] != '.';
  for (char c : id) good = good && is_id_character(c);
  if (!good) return refuse("`" + std::string(name) + "` must be 1 to 128 letters, digits, '_', '.', '-'");
  return std::string(id);
}

}  // namespace

Result<std::string> parse_id(const Json& request) { return parse_name(request, "id"); }

Result<StartCall> parse_start(const Json& request) {
  StartCall call;
  auto id = parse_id(request);
  if (!id) return std::unexpected(id.error());
  auto bundle = parse_path(request, "bundle", true);
  if (!bundle) return std::unexpected(bundle.error());
  auto log_path = parse_path(request, "log_path", false);
  if (!log_path) return std::unexpected(log_path.error());
  auto seccomp = parse_path(request, "seccomp_bpf", false);
  if (!seccomp) return std::unexpected(seccomp.error());
  call.request = {std::move(*id),
                  std::move(*bundle),
                  std::move(*log_path),
                  request["stdin"].boolean(),
                  request["stdin_once"].boolean(),
                  std::move(*seccomp),
                  {},
                  {}};
  if (!request["pid_of"].is_null()) {
    auto target = parse_name(request, "pid_of");
    if (!target) return std::unexpected(target.error());
    call.request.pid_of = std::move(*target);
  }
  const Json& handler = request["handler"];
  if (handler.is_null()) return call;
  auto binary = parse_path(handler, "binary", true);
  if (!binary) return std::unexpected(binary.error());
  auto root = parse_path(handler, "root", true);
  if (!root) return std::unexpected(root.error());
  call.binary = OciBinary{std::move(*binary), std::move(*root)};
  return call;
}

Result<ExecCall> parse_exec(const Json& request) {
  ExecCall call;
  for (const Json& argument : request["args"].items()) {
    if (!argument.is_string() || argument.string().find('\0') != std::string_view::npos) {
      return refuse("`args` must be strings without NUL");
    }
    call.args.emplace_back(argument.string());
  }
  if (call.args.empty()) return refuse("`args` is empty");
  call.terminal = request["tty"].boolean();
  call.input = request["stdin"].boolean();
  auto limit = parse_limit(request, "timeout_ms");
  if (!limit) return std::unexpected(limit.error());
  call.limit = *limit;
  auto columns = parse_short(request, "columns");
  if (!columns) return std::unexpected(columns.error());
  auto rows = parse_short(request, "rows");
  if (!rows) return std::unexpected(rows.error());
  call.columns = *columns;
  call.rows = *rows;
  return call;
}

Result<int> parse_signal(const Json& request) {
  int64_t signal = request["signal"].integer();
  if (signal < 1 || signal > 64) return refuse("`signal` must be a number from 1 to 64");
  return static_cast<int>(signal);
}

Result<std::chrono::milliseconds> parse_limit(const Json& request, std::string_view name) {
  int64_t limit = request[name].integer();
  if (limit < 0 || limit > year_ms) return refuse("`" + std::string(name) + "` must be milliseconds, at most a year");
  return std::chrono::milliseconds(limit);
}

Result<uint16_t> parse_short(const Json& request, std::string_view name) {
  int64_t number = request[name].integer();
  if (number < 0 || number > 65535) return refuse("`" + std::string(name) + "` must be a number from 0 to 65535");
  return static_cast<uint16_t>(number);
}

}  // namespace keelson
