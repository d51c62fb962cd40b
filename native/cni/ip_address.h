// IP addresses and prefixes of both families as numbers: parsing, formatting, counting, masking.
#pragma once

#include <netinet/in.h>

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace keelson {

struct IpAddress {
  int family = AF_UNSPEC;           // AF_INET or AF_INET6; AF_UNSPEC: no address
  std::array<uint8_t, 16> bytes{};  // in network order, the first four of IPv4

  explicit operator bool() const { return family != AF_UNSPEC; }
  bool is_v4() const { return family == AF_INET; }
  size_t size() const { return is_v4() ? 4 : 16; }
  unsigned bits() const { return is_v4() ? 32 : 128; }
  std::span<const uint8_t> octets() const { return {bytes.data(), size()}; }
  bool is_unspecified() const { return bytes == std::array<uint8_t, 16>{}; }
  auto operator<=>(const IpAddress&) const = default;
};

struct IpPrefix {
  IpAddress address;  // may have host bits, as an interface's address does
  unsigned length = 0;

  bool operator==(const IpPrefix&) const = default;
};

// An IPv4-mapped IPv6 address (::ffff:10.0.0.1) becomes IPv4, as in the reference CNI plugins.
std::optional<IpAddress> parse_address(std::string_view text);
std::optional<IpPrefix> parse_prefix(std::string_view text);
// `size` bytes in network order.
IpAddress address_of(int family, const void* bytes);

std::string to_string(const IpAddress& address);
std::string to_string(const IpPrefix& prefix);

IpAddress next(IpAddress address);
IpAddress network_of(const IpPrefix& prefix);
// The address with all host bits set.
IpAddress last_of(const IpPrefix& prefix);
bool contains(const IpPrefix& prefix, const IpAddress& address);
IpPrefix default_destination(int family);

}  // namespace keelson
