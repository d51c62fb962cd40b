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
// Of every interface.
Result<std::vector<InterfaceAddress>> list_all_addresses(NetlinkSocket& netlink, int family);

// IPv4 with its broadcast address. `detect_duplicates` (IPv6): not to be used before the kernel has asked the others,
// for a second or two.
void add_address(NetlinkBatch& batch, const Link& link, const IpPrefix& address, bool detect_duplicates);
void delete_address(NetlinkBatch& batch, const Link& link, const IpPrefix& address);

// Until no address of the link is tentative; fails for one that somebody else has, and after `milliseconds`. `events`
// must be subscribed to RTNLGRP_IPV6_IFADDR.
Status settle_addresses(NetlinkSocket& netlink, NetlinkSocket& events, const Link& link, int milliseconds);

}  // namespace keelson
