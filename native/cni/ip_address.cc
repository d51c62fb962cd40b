#include "cni/ip_address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

namespace keelson {

namespace {

constexpr std::array<uint8_t, 12> v4_mapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

// The bits of byte `index` that belong to the network.
uint8_t mask_byte(unsigned length, size_t index) {
  unsigned first = static_cast<unsigned>(index) * 8;
  if (length >= first + 8) return 0xff;
  if (length <= first) return 0;
  return static_cast<uint8_t>(0xff << (8 - (length - first)));
}

}  // namespace

std::optional<IpAddress> parse_address(std::string_view text) {
  if (text.find('\0') != std::string_view::npos) return std::nullopt;  // inet_pton would stop there
  std::string terminated(text);
  IpAddress address;
  if (inet_pton(AF_INET, terminated.c_str(), address.bytes.data()) == 1) {
    address.family = AF_INET;
    return address;
  }
  if (inet_pton(AF_INET6, terminated.c_str(), address.bytes.data()) != 1) return std::nullopt;
  address.family = AF_INET6;
  if (!std::equal(v4_mapped.begin(), v4_mapped.end(), address.bytes.begin())) return address;
  return address_of(AF_INET, address.bytes.data() + v4_mapped.size());
}

std::optional<IpPrefix> parse_prefix(std::string_view text) {
  size_t slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  std::optional<IpAddress> address = parse_address(text.substr(0, slash));
  if (!address) return std::nullopt;
  IpPrefix prefix{*address, 0};
  std::string_view length = text.substr(slash + 1);
  auto [end, code] = std::from_chars(length.data(), length.data() + length.size(), prefix.length);
  if (code != std::errc() || end != length.data() + length.size() || prefix.length > address->bits()) {
    return std::nullopt;
  }
  return prefix;
}

IpAddress address_of(int family, const void* bytes) {
  IpAddress address;
  address.family = family;
  std::copy_n(static_cast<const uint8_t*>(bytes), address.size(), address.bytes.begin());
  return address;
}

std::string to_string(const IpAddress& address) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address) inet_ntop(address.family, address.bytes.data(), text, sizeof text);
  return text;
}

std::string to_string(const IpPrefix& prefix) {
  return to_string(prefix.address) + "/" + std::to_string(prefix.length);
}

IpAddress next(IpAddress address) {
  for (size_t i = address.size(); i-- > 0;) {
    if (++address.bytes[i] != 0) break;
  }
  return address;
}

IpAddress network_of(const IpPrefix& prefix) {
  IpAddress network = prefix.address;
  for (size_t i = 0; i < network.size(); ++i) network.bytes[i] &= mask_byte(prefix.length, i);
  return network;
}

IpAddress last_of(const IpPrefix& prefix) {
  IpAddress last = prefix.address;
  for (size_t i = 0; i < last.size(); ++i) last.bytes[i] |= static_cast<uint8_t>(~mask_byte(prefix.length, i));
  return last;
}

bool contains(const IpPrefix& prefix, const IpAddress& address) {
  return prefix.address.family == address.family && network_of(prefix) == network_of({address, prefix.length});
}

IpPrefix default_destination(int family) {
  IpPrefix all;
  all.address.family = family;
  return all;
}

}  // namespace keelson
