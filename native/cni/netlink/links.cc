#include "cni/netlink/links.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if_arp.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>

#include "cni/netlink/background.h"
#include "cni/netlink/deadline.h"

namespace keelson {

namespace {

constexpr int deletion_limit_ms = 10'000;

struct Mac {
  std::array<uint8_t, 6> bytes{};
};

std::optional<Mac> parse_mac(const std::string& text) {
  Mac mac;
  int end = 0;
  auto& b = mac.bytes;
  int count =
      sscanf(text.c_str(), "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &end);
  if (count != 6 || static_cast<size_t>(end) != text.size() || text.size() != 17) return std::nullopt;
  return mac;
}

std::string mac_text(const nlattr* attribute) {
  auto* bytes = static_cast<const uint8_t*>(mnl_attr_get_payload(attribute));
  std::string text;
  for (size_t i = 0; i < mnl_attr_get_payload_len(attribute); ++i) {
    char octet[4];
    snprintf(octet, sizeof octet, "%s%02x", i == 0 ? "" : ":", bytes[i]);
    text += octet;
  }
  return text;
}

std::string kind_of(const nlattr* info) {
  std::string kind;
  each_nested(info, [&](const nlattr* attribute) {
    if (mnl_attr_get_type(attribute) == IFLA_INFO_KIND) kind = mnl_attr_get_str(attribute);
  });
  return kind;
}

Link read_link(const nlmsghdr* message) {
  Link link;
  auto* header = static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(message));
  link.index = header->ifi_index;
  link.flags = header->ifi_flags;
  each_attribute(message, sizeof(ifinfomsg), [&](const nlattr* attribute) {
    switch (mnl_attr_get_type(attribute)) {
      case IFLA_IFNAME: link.name = mnl_attr_get_str(attribute); break;
      case IFLA_ADDRESS: link.mac = mac_text(attribute); break;
      case IFLA_OPERSTATE: link.operational_state = mnl_attr_get_u8(attribute); break;
      case IFLA_PROMISCUITY: link.promiscuity = mnl_attr_get_u32(attribute); break;
      case IFLA_MASTER: link.master = static_cast<int>(mnl_attr_get_u32(attribute)); break;
      case IFLA_LINK: link.peer = static_cast<int>(mnl_attr_get_u32(attribute)); break;
      case IFLA_LINKINFO: link.kind = kind_of(attribute); break;
      default: break;
    }
  });
  return link;
}

nlmsghdr* change_link(NetlinkBatch& batch, const Link& link, std::string step, unsigned flags, unsigned changed) {
  nlmsghdr* message = batch.open(RTM_NEWLINK, 0, std::move(step));
  auto* header = NetlinkBatch::header<ifinfomsg>(message);
  header->ifi_index = link.index;
  header->ifi_flags = flags;
  header->ifi_change = changed;
  return message;
}

void put_deletion(NetlinkBatch& batch, const Link& link) {
  nlmsghdr* message = batch.open(RTM_DELLINK, 0, "delete " + link.name);
  NetlinkBatch::header<ifinfomsg>(message)->ifi_index = link.index;
}

// Deletes the link, waits for the kernel, and writes the errno, or 0, to `report`.
void delete_and_report(NetlinkSocket& netlink, const Link& link, int report) {
  NetlinkBatch batch;
  put_deletion(batch, link);
  Status deleted = netlink.transact(batch);
  int error = deleted ? 0 : deleted.error().error_number;
  [[maybe_unused]] ssize_t count = write(report, &error, sizeof error);
}

// Waits until the kernel notifies that the link is deleted, or the child reports the result.
Status await_deletion(NetlinkSocket& events, const Link& link, int report) {
  Deadline deadline(deletion_limit_ms);
  for (;;) {
    pollfd waits[] = {{events.descriptor(), POLLIN, 0}, {report, POLLIN, 0}};
    int ready = poll(waits, 2, deadline.left());
    if (ready == 0) return fail(Kind::timeout, "delete " + link.name, "the kernel did not delete it in time");
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0) return fail_errno("wait for netlink");
    if (waits[0].revents != 0) {
      Result<NetlinkReplies> received = events.receive(0);
      // Too many events for the socket's buffer: the child will report.
      if (!received && received.error().error_number == ENOBUFS) continue;
      bool gone = false;
      TRY(std::move(received)).each([&](const nlmsghdr* message) {
        if (message->nlmsg_type == RTM_DELLINK && read_link(message).index == link.index) gone = true;
      });
      if (gone) return {};
    }
    if (waits[1].revents != 0) {
      int error = 0;
      if (read(report, &error, sizeof error) != sizeof error) error = EINTR;  // the child was killed
      if (error == 0 || error == ENODEV) return {};
      return fail_errno("delete " + link.name, error);
    }
  }
}

Result<std::optional<Link>> find_by(NetlinkSocket& netlink, NetlinkBatch& request) {
  Result<NetlinkReplies> replies = netlink.query(request);
  if (!replies && replies.error().error_number == ENODEV) return std::nullopt;
  std::optional<Link> found;
  TRY(std::move(replies)).each([&](const nlmsghdr* reply) {
    if (reply->nlmsg_type == RTM_NEWLINK) found = read_link(reply);
  });
  return found;
}

}  // namespace

bool is_mac(const std::string& text) { return parse_mac(text).has_value(); }

Result<std::optional<Link>> find_link(NetlinkSocket& netlink, const std::string& name) {
  NetlinkBatch batch;
  nlmsghdr* message = batch.open(RTM_GETLINK, 0, "find " + name);
  NetlinkBatch::header<ifinfomsg>(message);
  mnl_attr_put_strz(message, IFLA_IFNAME, name.c_str());
  mnl_attr_put_u32(message, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  return find_by(netlink, batch);
}

Result<std::optional<Link>> find_link(NetlinkSocket& netlink, int index) {
  NetlinkBatch batch;
  nlmsghdr* message = batch.open(RTM_GETLINK, 0, "find interface " + std::to_string(index));
  NetlinkBatch::header<ifinfomsg>(message)->ifi_index = index;
  return find_by(netlink, batch);
}

Result<Link> await_operational(NetlinkSocket& netlink, NetlinkSocket& events, const std::string& name,
                               int milliseconds) {
  Deadline deadline(milliseconds);
  for (;;) {
    std::optional<Link> link = TRY(find_link(netlink, name));
    if (!link) return fail(Kind::not_found, "find " + name, "it no longer exists");
    if (link->operational_state == IF_OPER_UP || deadline.left() == 0) return *link;
    Result<NetlinkReplies> event = events.receive(deadline.left());
    if (!event && event.error().kind != Kind::timeout && event.error().error_number != ENOBUFS) {
      return std::unexpected(event.error());
    }
  }
}

void add_bridge(NetlinkBatch& batch, const std::string& name, int64_t mtu) {
  nlmsghdr* message = batch.open(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, "create the bridge " + name);
  NetlinkBatch::header<ifinfomsg>(message);
  mnl_attr_put_strz(message, IFLA_IFNAME, name.c_str());
  if (mtu != 0) mnl_attr_put_u32(message, IFLA_MTU, static_cast<uint32_t>(mtu));
  nlattr* info = mnl_attr_nest_start(message, IFLA_LINKINFO);
  mnl_attr_put_strz(message, IFLA_INFO_KIND, "bridge");
  mnl_attr_nest_end(message, info);
}

void add_veth(NetlinkBatch& batch, const VethPair& pair, const Fd& container) {
  std::string step = "create the veth pair " + pair.host_name + " and " + pair.container_name;
  nlmsghdr* message = batch.open(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, step);
  auto* header = NetlinkBatch::header<ifinfomsg>(message);
  header->ifi_flags = IFF_UP;
  header->ifi_change = IFF_UP;
  mnl_attr_put_strz(message, IFLA_IFNAME, pair.host_name.c_str());
  if (pair.mtu != 0) mnl_attr_put_u32(message, IFLA_MTU, static_cast<uint32_t>(pair.mtu));
  if (pair.master != 0) mnl_attr_put_u32(message, IFLA_MASTER, static_cast<uint32_t>(pair.master));
  nlattr* info = mnl_attr_nest_start(message, IFLA_LINKINFO);
  mnl_attr_put_strz(message, IFLA_INFO_KIND, "veth");
  nlattr* data = mnl_attr_nest_start(message, IFLA_INFO_DATA);
  nlattr* peer = mnl_attr_nest_start(message, VETH_INFO_PEER);
  NetlinkBatch::header<ifinfomsg>(message);
  mnl_attr_put_strz(message, IFLA_IFNAME, pair.container_name.c_str());
  mnl_attr_put_u32(message, IFLA_NET_NS_FD, static_cast<uint32_t>(container.get()));
  if (pair.mtu != 0) mnl_attr_put_u32(message, IFLA_MTU, static_cast<uint32_t>(pair.mtu));
  std::optional<Mac> mac = parse_mac(pair.container_mac);
  if (mac) mnl_attr_put(message, IFLA_ADDRESS, mac->bytes.size(), mac->bytes.data());
  mnl_attr_nest_end(message, peer);
  mnl_attr_nest_end(message, data);
  mnl_attr_nest_end(message, info);
}

void set_link_up(NetlinkBatch& batch, const Link& link) {
  change_link(batch, link, "set " + link.name + " up", IFF_UP, IFF_UP);
}

void set_link_down(NetlinkBatch& batch, const Link& link) {
  change_link(batch, link, "set " + link.name + " down", 0, IFF_UP);
}

void set_link_promiscuous(NetlinkBatch& batch, const Link& link) {
  change_link(batch, link, "set " + link.name + " promiscuous", IFF_PROMISC, IFF_PROMISC);
}

void pin_link_mac(NetlinkBatch& batch, const Link& link) {
  std::optional<Mac> mac = parse_mac(link.mac);
  if (!mac) return;
  nlmsghdr* message = change_link(batch, link, "set the MAC address of " + link.name, 0, 0);
  mnl_attr_put(message, IFLA_ADDRESS, mac->bytes.size(), mac->bytes.data());
}

void set_port_options(NetlinkBatch& batch, const std::string& port, bool hairpin, bool isolated) {
  nlmsghdr* message = batch.open(RTM_NEWLINK, 0, "set the port options of " + port);
  NetlinkBatch::header<ifinfomsg>(message);
  mnl_attr_put_strz(message, IFLA_IFNAME, port.c_str());
  nlattr* info = mnl_attr_nest_start(message, IFLA_LINKINFO);
  mnl_attr_put_strz(message, IFLA_INFO_SLAVE_KIND, "bridge");
  nlattr* data = mnl_attr_nest_start(message, IFLA_INFO_SLAVE_DATA);
  mnl_attr_put_u8(message, IFLA_BRPORT_MODE, hairpin);
  mnl_attr_put_u8(message, IFLA_BRPORT_ISOLATED, isolated);
  mnl_attr_nest_end(message, data);
  mnl_attr_nest_end(message, info);
}

// RTM_DELLINK removes the link from all lists, sends a notification, and then waits for an RCU grace period and for
// remaining references to the device: 5 to 30 ms on an idle machine, uninterruptible. Nothing depends on that wait, so a
// child does it, while this process continues at the notification.
Status delete_veth(const Fd& network_namespace, const std::string& name) {
  NetlinkSocket events = TRY(open_netlink_inside(network_namespace));
  std::optional<Link> link = TRY(find_link(events, name));
  if (!link || link->kind != "veth") return {};
  TRY(events.subscribe(RTNLGRP_LINK));
  NetlinkSocket netlink = TRY(open_netlink_inside(network_namespace));
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return fail_errno("create a pipe");
  Fd report(ends[0]);
  Fd reporting(ends[1]);
  TRY(run_in_background([&] { delete_and_report(netlink, *link, reporting.get()); }));
  reporting.reset();
  return await_deletion(events, *link, report.get());
}

}  // namespace keelson
