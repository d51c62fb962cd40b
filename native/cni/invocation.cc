#include "cni/invocation.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <optional>

#include "cni/netlink/deadline.h"

namespace keelson {

namespace {

constexpr size_t config_limit = 8 * 1024 * 1024;
// From the first byte on: before that, a runtime may let the plugin wait for its turn.
constexpr int input_limit_ms = 10'000;
constexpr size_t interface_name_limit = 15;

std::string environment(const char* name) {
  const char* value = getenv(name);
  return value ? value : "";
}

bool is_alphanumeric(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 && static_cast<unsigned char>(c) < 128;
}

// The characters that the spec allows in container ids and network names. No slash: both become file names.
bool is_name(std::string_view text) {
  return !text.empty() && is_alphanumeric(text.front()) &&
         std::ranges::all_of(text, [](char c) { return is_alphanumeric(c) || c == '_' || c == '.' || c == '-'; });
}

bool is_interface_name(std::string_view text) {
  return !text.empty() && text.size() <= interface_name_limit && text != "." && text != ".." &&
         std::ranges::none_of(text, [](char c) {
           return c == '/' || c == ':' || c == '%' || std::isspace(static_cast<unsigned char>(c)) != 0;
         });
}

Outcome<Command> parse_command(std::string_view word) {
  if (word == "ADD") return Command::add;
  if (word == "DEL") return Command::del;
  if (word == "CHECK") return Command::check;
  if (word == "GC") return Command::gc;
  if (word == "STATUS") return Command::status;
  if (word == "VERSION") return Command::version;
  if (word.empty()) return refuse(ErrorCode::invalid_environment, "required env variables [CNI_COMMAND] missing");
  return refuse(ErrorCode::invalid_environment, "unknown CNI_COMMAND: " + std::string(word));
}

Done read_environment(Invocation& invocation) {
  invocation.command = TRY(parse_command(environment("CNI_COMMAND")));
  invocation.container_id = environment("CNI_CONTAINERID");
  invocation.netns = environment("CNI_NETNS");
  invocation.interface_name = environment("CNI_IFNAME");
  std::string override = environment("CNI_NETNS_OVERRIDE");
  std::ranges::transform(override, override.begin(), [](unsigned char c) { return std::toupper(c); });
  invocation.own_namespace_allowed = override == "TRUE" || override == "1";

  Command command = invocation.command;
  bool of_container = command == Command::add || command == Command::check || command == Command::del;
  if (!of_container) return {};
  std::string missing;
  if (invocation.container_id.empty()) missing += ",CNI_CONTAINERID";
  if (invocation.netns.empty() && command != Command::del) missing += ",CNI_NETNS";
  if (invocation.interface_name.empty()) missing += ",CNI_IFNAME";
  if (!missing.empty()) {
    return refuse(ErrorCode::invalid_environment, "required env variables [" + missing.substr(1) + "] missing");
  }
  if (!is_name(invocation.container_id)) {
    return refuse(ErrorCode::invalid_environment, "invalid characters in containerID", invocation.container_id);
  }
  if (!is_interface_name(invocation.interface_name)) {
    return refuse(ErrorCode::invalid_environment, "invalid interface name", invocation.interface_name);
  }
  return {};
}

// "K=V;K2=V2". A runtime that sends other keys must also send IgnoreUnknown=1.
Done read_arguments(Invocation& invocation) {
  std::string text = environment("CNI_ARGS");
  std::string_view rest = text;
  std::string unknown;
  while (!rest.empty()) {
    size_t end = std::min(rest.find(';'), rest.size());
    std::string_view pair = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    size_t equals = pair.find('=');
    if (equals == std::string_view::npos || pair.find('=', equals + 1) != std::string_view::npos) {
      return refuse(ErrorCode::invalid_environment, "CNI_ARGS: invalid pair \"" + std::string(pair) + "\"");
    }
    std::string key(pair.substr(0, equals));
    if (key != "IgnoreUnknown" && key != "MAC" && key != "IP" && key != "GATEWAY") unknown += " " + key;
    invocation.arguments[key] = pair.substr(equals + 1);
  }
  std::string ignore = invocation.arguments["IgnoreUnknown"];
  std::ranges::transform(ignore, ignore.begin(), [](unsigned char c) { return std::tolower(c); });
  if (unknown.empty() || ignore == "1" || ignore == "true" || !invocation.is_strict()) return {};
  return refuse(ErrorCode::invalid_environment, "CNI_ARGS: unknown keys without IgnoreUnknown=1:" + unknown);
}

// Not read_to_end() of common/: a runtime that starts to write but never closes its end must not block a plugin forever.
Outcome<std::string> read_config() {
  std::string text;
  char chunk[16 * 1024];
  std::optional<Deadline> deadline;
  for (;;) {
    pollfd input{STDIN_FILENO, POLLIN, 0};
    int ready = poll(&input, 1, deadline ? deadline->left() : -1);
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) return refuse(ErrorCode::io_failure, "standard input did not end within 10 seconds");
    ssize_t count = read(STDIN_FILENO, chunk, sizeof chunk);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count < 0) return refuse(ErrorCode::io_failure, "error reading from stdin", strerror(errno));
    if (count == 0) return text;
    if (!deadline) deadline.emplace(input_limit_ms);
    text.append(chunk, static_cast<size_t>(count));
    if (text.size() > config_limit) return refuse(ErrorCode::io_failure, "the configuration is larger than 8 MiB");
  }
}

bool is_since(std::string_view version, std::string_view first) {
  auto place = [](std::string_view of) { return std::ranges::find(supported_versions, of); };
  return place(version) >= place(first);
}

Done check_version(const Invocation& invocation) {
  if (std::ranges::find(supported_versions, invocation.version) == std::end(supported_versions)) {
    return refuse(ErrorCode::incompatible_version, "incompatible CNI versions",
                  "config is \"" + invocation.version + "\", plugin supports 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0");
  }
  if (invocation.command == Command::check && !is_since(invocation.version, "0.4.0")) {
    return refuse(ErrorCode::incompatible_version, "config version does not allow CHECK");
  }
  bool newest = invocation.command == Command::gc || invocation.command == Command::status;
  if (newest && !is_since(invocation.version, "1.1.0")) {
    return refuse(ErrorCode::incompatible_version, "config version does not allow GC or STATUS");
  }
  return {};
}

}  // namespace

Outcome<Invocation> read_invocation(std::string& version) {
  version = supported_versions[std::size(supported_versions) - 1];
  Invocation invocation;
  TRY(read_environment(invocation));
  if (invocation.command == Command::version) return invocation;
  TRY(read_arguments(invocation));

  Result<Json> config = parse_json(TRY(read_config()));
  if (!config) return refuse(ErrorCode::decoding_failure, "the network configuration: " + config.error().message());
  if (!config->is_object()) return refuse(ErrorCode::decoding_failure, "the network configuration is not an object");
  invocation.config = std::move(*config);
  // A configuration without a version has the very first version.
  invocation.version = invocation.part("cniVersion").string("0.1.0");
  version = invocation.version;
  invocation.network = invocation.part("name").string();
  if (invocation.network.empty()) return misconfigured("missing network name");
  if (!is_name(invocation.network)) {
    return refuse(ErrorCode::invalid_configuration, "invalid characters found in network name", invocation.network);
  }
  TRY(check_version(invocation));
  return invocation;
}

Outcome<std::vector<Attachment>> valid_attachments(const Invocation& invocation) {
  constexpr std::string_view key = "cni.dev/valid-attachments";
  const Json& list = invocation.part(key);
  // Absent is not the same as empty: an empty list means that nothing is valid and everything must be removed. The libcni
  // that CRI-O uses writes null for an empty list.
  bool is_there = std::ranges::any_of(invocation.config.members(), [&](const auto& one) { return one.first == key; });
  if (!list.is_array() && !(is_there && list.is_null())) {
    return misconfigured("GC needs cni.dev/valid-attachments, an array");
  }
  std::vector<Attachment> valid;
  for (const Json& item : list.items()) {
    Attachment one{std::string(find_member(item, "containerID").string()),
                   std::string(find_member(item, "ifname").string())};
    if (one.container_id.empty() || one.interface_name.empty()) {
      return misconfigured("cni.dev/valid-attachments: each needs containerID and ifname");
    }
    valid.push_back(std::move(one));
  }
  return valid;
}

}  // namespace keelson
