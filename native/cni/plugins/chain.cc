#include "cni/plugins/chain.h"

#include <ranges>
#include <utility>
#include <vector>

#include "cni/config_object.h"
#include "cni/plugins/catalogue.h"

namespace keelson {

namespace {

// Keys of the chain's configuration that are passed to each plugin.
constexpr const char* passed_on[] = {"prevResult", "cni.dev/valid-attachments"};

struct Member {
  const Plugin* plugin;
  Invocation invocation;
};

Outcome<Member> make_member(const Invocation& chain, const Json& config, size_t number) {
  const std::string type(find_member(config, "type").string());
  const Plugin* plugin = find_plugin(type);
  if (!plugin || plugin == &chain_plugin) {
    return misconfigured("plugins[" + std::to_string(number) + "].type: \"" + type +
                         "\" is not a plugin that a chain can contain");
  }
  Invocation invocation{chain.command,   chain.container_id,          chain.netns, chain.interface_name,
                        chain.arguments, chain.own_namespace_allowed, config,      chain.network,
                        chain.version};
  for (const char* key : passed_on) {
    if (const Json& value = chain.part(key); !value.is_null()) invocation.config.set(key, value);
  }
  return Member{plugin, std::move(invocation)};
}

// The chain's plugins, in the order of ADD.
Outcome<std::vector<Member>> read_chain(const Invocation& invocation) {
  ConfigObject config(invocation.config, "");
  for (const char* key : {"cniVersion", "name", "type", "prevResult"}) config.member(key);
  const std::vector<Json>& plugins = *TRY(config.items("plugins"));
  if (invocation.is_strict()) TRY(config.refuse_others());
  if (plugins.empty()) return misconfigured("plugins: a chain needs at least one plugin");
  std::vector<Member> members;
  for (const Json& plugin : plugins) members.push_back(TRY(make_member(invocation, plugin, members.size())));
  return members;
}

// Prefixes an error with the plugin's name.
template <typename T>
Outcome<T> of(const Member& member, Outcome<T> outcome) {
  if (!outcome) outcome.error().message = std::string(member.plugin->name) + ": " + outcome.error().message;
  return outcome;
}

Outcome<std::string> chain_add(const Invocation& invocation) {
  std::string result;
  for (Member& member : TRY(read_chain(invocation))) {
    if (!result.empty()) member.invocation.config.set("prevResult", TRY(parse_json(result)));
    result = TRY(of(member, member.plugin->add(member.invocation)));
  }
  return result;
}

using Call = Done (*Plugin::*)(const Invocation&);

// Calls each plugin in order, up to the first that fails.
Done in_turn(const Invocation& invocation, Call call) {
  for (const Member& member : TRY(read_chain(invocation))) TRY(of(member, (member.plugin->*call)(member.invocation)));
  return {};
}

// Calls every plugin, in reverse order of ADD, even if one fails; returns the first failure.
Done all_backwards(const Invocation& invocation, Call call) {
  Done done;
  for (const Member& member : TRY(read_chain(invocation)) | std::views::reverse) {
    Done one = of(member, (member.plugin->*call)(member.invocation));
    if (done) done = std::move(one);
  }
  return done;
}

Done chain_del(const Invocation& invocation) { return all_backwards(invocation, &Plugin::del); }
Done chain_check(const Invocation& invocation) { return in_turn(invocation, &Plugin::check); }
Done chain_status(const Invocation& invocation) { return in_turn(invocation, &Plugin::status); }
Done chain_gc(const Invocation& invocation) { return all_backwards(invocation, &Plugin::gc); }

}  // namespace

const Plugin chain_plugin{"keelson-chain", chain_add, chain_del, chain_check, chain_status, chain_gc};

}  // namespace keelson
