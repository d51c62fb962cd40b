// IP addresses of network interfaces.
#pragma once

#include <vector>

#include "cni/ip_address.h"
#include "cni/netlink/links.h"
#include "cni/netlink/netlink.h"

namespace keelson {

struct InterfaceAddress {
  int interface = 0;  // its index
  IpPrefix prefix;
  uint32_t flags = 0;  // IFA_F_*
};

Result<std::vector<InterfaceAddress>> list_addresses(NetlinkSocket& netlink, const Link& link, int family);
// The addresses of every interface.
Result<std::vector<InterfaceAddress>> list_all_addresses(NetlinkSocket& netlink, int family);

// IPv4 addresses get a broadcast address. With `detect_duplicates` an IPv6 address is usable only after the kernel's
// duplicate address detection, which takes a second or two.
void add_address(NetlinkBatch& batch, const Link& link, const IpPrefix& address, bool detect_duplicates);
void delete_address(NetlinkBatch& batch, const Link& link, const IpPrefix& address);

// Waits until no address of the link is tentative. Fails if one is a duplicate, or after `milliseconds`. `events` must be
// subscribed to RTNLGRP_IPV6_IFADDR.
Status settle_addresses(NetlinkSocket& netlink, NetlinkSocket& events, const Link& link, int milliseconds);

}  // namespace keelson
