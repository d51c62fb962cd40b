// keelson-cni: network plugins for the Container Network Interface, version 1.1.0. One program, which acts as the plugin
// under whose name it is run. It runs no other programs.
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "cni/invocation.h"
#include "cni/plugins/catalogue.h"
#include "common/file.h"
#include "common/json.h"

namespace keelson {

namespace {

// cni/maker.ts recognizes this program, of any version, by the line about standard input.
constexpr const char* usage_text =
    "keelson-cni " KEELSON_VERSION
    ": network plugins for the Container Network Interface (CNI), version 1.1.0.\n"
    "\n"
    "Run by a container runtime under the name of a plugin, with the call in the environment and the\n"
    "configuration on standard input, which it reads before it does anything. The plugins:";

Outcome<std::string> versions() {
  JsonWriter json;
  json.begin_object().key("cniVersion").value(supported_versions[std::size(supported_versions) - 1]);
  json.key("supportedVersions").begin_array();
  for (std::string_view version : supported_versions) json.value(version);
  json.end_array().end_object();
  return json.take() + "\n";
}

// Returns the text for standard output.
Outcome<std::string> call(const Plugin& plugin, const Invocation& invocation) {
  Done done;
  switch (invocation.command) {
    case Command::add: return plugin.add(invocation);
    case Command::version: return versions();
    case Command::del: done = plugin.del(invocation); break;
    case Command::check: done = plugin.check(invocation); break;
    case Command::gc: done = plugin.gc(invocation); break;
    case Command::status: done = plugin.status(invocation); break;
  }
  TRY(done);
  return std::string();
}

int answer(int descriptor, std::string_view text, int exit_code) {
  std::span bytes(reinterpret_cast<const uint8_t*>(text.data()), text.size());
  return write_all(descriptor, bytes, "write the answer") ? exit_code : 2;
}

int usage() {
  std::string text = usage_text;
  for (const Plugin* plugin : all_plugins()) text += std::string(" ") + plugin->name;
  return answer(STDERR_FILENO, text + "\n", 1);
}

int run(std::string_view program, std::span<char* const> words) {
  if (words.size() == 1 && std::string_view(words[0]) == "--version") {
    return answer(STDOUT_FILENO, "keelson-cni " KEELSON_VERSION "\n", 0);
  }
  const Plugin* plugin = find_plugin(program.substr(program.rfind('/') + 1));
  if (!plugin || !getenv("CNI_COMMAND")) return usage();
  std::string version;
  Outcome<Invocation> invocation = read_invocation(version);
  Outcome<std::string> text = invocation ? call(*plugin, *invocation) : std::unexpected(invocation.error());
  return text ? answer(STDOUT_FILENO, *text, 0) : answer(STDOUT_FILENO, to_json(text.error(), version), 1);
}

}  // namespace

}  // namespace keelson

int main(int count, char** words) {
  close_range(3, ~0U, 0);
  std::span<char* const> all(words, static_cast<size_t>(count));
  return all.empty() ? 1 : keelson::run(all[0], all.subspan(1));
}
