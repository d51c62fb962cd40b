#include "cni/plugins/port_conditions.h"

#include <span>

namespace keelson {

namespace {

std::unexpected<PluginError> not_understood(const std::string& key, const std::string& word) {
  return unsupported(key + ": \"" + word +
                     "\" is not supported by this plugin, which supports only source and destination addresses");
}

// A single address is a network of full prefix length.
std::optional<IpPrefix> parse_network(const std::string& text) {
  if (std::optional<IpPrefix> prefix = parse_prefix(text)) return prefix;
  std::optional<IpAddress> address = parse_address(text);
  if (!address) return std::nullopt;
  return IpPrefix{*address, address->bits()};
}

// Consumes the first word if it is `word`.
bool take(std::span<const std::string>& words, std::string_view word) {
  if (words.empty() || words.front() != word) return false;
  words = words.subspan(1);
  return true;
}

Outcome<AddressCondition> parse_one(std::span<const std::string>& words, const std::string& key) {
  const std::string& first = words.front();
  AddressCondition condition;
  condition.equal = !take(words, "!");
  bool nft = take(words, "ip") || take(words, "ip6");
  bool source = take(words, nft ? "saddr" : "-s") || (!nft && take(words, "--source"));
  bool destination = !source && (take(words, nft ? "daddr" : "-d") || (!nft && take(words, "--destination")));
  if (!source && !destination) return not_understood(key, words.empty() ? first : words.front());
  condition.side = source ? Side::source : Side::destination;
  if (nft && take(words, "!=")) condition.equal = false;
  else if (nft) take(words, "==");
  std::optional<IpPrefix> network = words.empty() ? std::nullopt : parse_network(words.front());
  if (!network) return not_understood(key, words.empty() ? first : words.front());
  words = words.subspan(1);
  condition.prefix = *network;
  return condition;
}

}  // namespace

Outcome<std::vector<AddressCondition>> parse_conditions(const std::vector<std::string>& words, const std::string& key) {
  // Several nft words may be in one string.
  std::vector<std::string> single;
  for (const std::string& text : words) {
    for (size_t at = text.find_first_not_of(' '); at != std::string::npos; at = text.find_first_not_of(' ', at)) {
      size_t end = std::min(text.find(' ', at), text.size());
      single.push_back(text.substr(at, end - at));
      at = end;
    }
  }
  std::vector<AddressCondition> conditions;
  for (std::span<const std::string> left = single; !left.empty();) conditions.push_back(TRY(parse_one(left, key)));
  return conditions;
}

}  // namespace keelson
