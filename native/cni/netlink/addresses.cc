#include "cni/netlink/addresses.h"

#include <linux/if_addr.h>
#include <linux/rtnetlink.h>

#include <optional>

#include "cni/netlink/deadline.h"

namespace keelson {

namespace {

std::optional<InterfaceAddress> read_address(const nlmsghdr* message) {
  auto* header = static_cast<const ifaddrmsg*>(mnl_nlmsg_get_payload(message));
  if (message->nlmsg_type != RTM_NEWADDR) return std::nullopt;
  InterfaceAddress found;
  found.interface = static_cast<int>(header->ifa_index);
  found.flags = header->ifa_flags;
  found.prefix.length = header->ifa_prefixlen;
  each_attribute(message, sizeof(ifaddrmsg), [&](const nlattr* attribute) {
    // A point-to-point link has both; IFA_LOCAL is its own address.
    bool local = mnl_attr_get_type(attribute) == IFA_LOCAL;
    bool only = mnl_attr_get_type(attribute) == IFA_ADDRESS && !found.prefix.address;
    if (local || only) found.prefix.address = address_of(header->ifa_family, mnl_attr_get_payload(attribute));
    if (mnl_attr_get_type(attribute) == IFA_FLAGS) found.flags = mnl_attr_get_u32(attribute);
  });
  return found;
}

// Old kernels return the addresses of all interfaces, whatever `index` is.
Result<std::vector<InterfaceAddress>> dump_addresses(NetlinkSocket& netlink, std::string step, int index, int family) {
  NetlinkBatch batch;
  nlmsghdr* request = batch.open(RTM_GETADDR, NLM_F_DUMP, std::move(step));
  auto* header = NetlinkBatch::header<ifaddrmsg>(request);
  header->ifa_family = static_cast<uint8_t>(family);
  header->ifa_index = static_cast<uint32_t>(index);
  std::vector<InterfaceAddress> addresses;
  TRY(netlink.query(batch)).each([&](const nlmsghdr* message) {
    std::optional<InterfaceAddress> address = read_address(message);
    if (address && (index == 0 || address->interface == index)) addresses.push_back(*address);
  });
  return addresses;
}

nlmsghdr* put_address(NetlinkBatch& batch, uint16_t type, uint16_t flags, std::string step, const Link& link,
                      const IpPrefix& address) {
  nlmsghdr* message = batch.open(type, flags, std::move(step));
  auto* header = NetlinkBatch::header<ifaddrmsg>(message);
  header->ifa_family = static_cast<uint8_t>(address.address.family);
  header->ifa_prefixlen = static_cast<uint8_t>(address.length);
  header->ifa_index = static_cast<uint32_t>(link.index);
  mnl_attr_put(message, IFA_LOCAL, address.address.size(), address.address.bytes.data());
  mnl_attr_put(message, IFA_ADDRESS, address.address.size(), address.address.bytes.data());
  return message;
}

}  // namespace

Result<std::vector<InterfaceAddress>> list_addresses(NetlinkSocket& netlink, const Link& link, int family) {
  return dump_addresses(netlink, "list the addresses of " + link.name, link.index, family);
}

Result<std::vector<InterfaceAddress>> list_all_addresses(NetlinkSocket& netlink, int family) {
  return dump_addresses(netlink, "list the addresses of all interfaces", 0, family);
}

void add_address(NetlinkBatch& batch, const Link& link, const IpPrefix& address, bool detect_duplicates) {
  std::string step = "add " + to_string(address) + " to " + link.name;
  nlmsghdr* message = put_address(batch, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, std::move(step), link, address);
  if (!address.address.is_v4()) {
    if (!detect_duplicates) mnl_attr_put_u32(message, IFA_FLAGS, IFA_F_NODAD);
    return;
  }
  if (address.length > 30) return;
  IpAddress broadcast = last_of(address);
  mnl_attr_put(message, IFA_BROADCAST, broadcast.size(), broadcast.bytes.data());
}

void delete_address(NetlinkBatch& batch, const Link& link, const IpPrefix& address) {
  put_address(batch, RTM_DELADDR, 0, "remove " + to_string(address) + " from " + link.name, link, address);
}

Status settle_addresses(NetlinkSocket& netlink, NetlinkSocket& events, const Link& link, int milliseconds) {
  Deadline deadline(milliseconds);
  for (;;) {
    bool tentative = false;
    for (const InterfaceAddress& address : TRY(list_addresses(netlink, link, AF_INET6))) {
      if (address.flags & IFA_F_DADFAILED) {
        return fail(Kind::exists, "settle the addresses of " + link.name,
                    to_string(address.prefix) + " is in use by another host");
      }
      tentative = tentative || (address.flags & IFA_F_TENTATIVE);
    }
    if (!tentative) return {};
    if (deadline.left() == 0) {
      return fail(Kind::timeout, "settle the addresses of " + link.name, "some are still tentative");
    }
    Result<NetlinkReplies> event = events.receive(deadline.left());
    if (!event && event.error().kind != Kind::timeout && event.error().error_number != ENOBUFS) {
      return std::unexpected(event.error());
    }
  }
}

}  // namespace keelson
