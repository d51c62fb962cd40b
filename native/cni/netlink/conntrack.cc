#include "cni/netlink/conntrack.h"

#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

#include <algorithm>

#include "cni/netlink/netlink.h"

namespace keelson {

namespace {

nlmsghdr* open_flow_message(NetlinkBatch& batch, int message_type, uint16_t flags, int family, const char* step) {
  auto type = static_cast<uint16_t>((NFNL_SUBSYS_CTNETLINK << 8) | message_type);
  nlmsghdr* message = batch.open(type, flags, step);
  auto* header = NetlinkBatch::header<nfgenmsg>(message);
  header->nfgen_family = static_cast<uint8_t>(family);
  header->version = NFNETLINK_V0;
  return message;
}

// The original destination port of a UDP flow; 0 for other flows.
uint16_t udp_port(const nlattr* tuple) {
  uint8_t protocol = 0;
  uint16_t port = 0;
  each_nested(tuple, [&](const nlattr* part) {
    if (mnl_attr_get_type(part) != CTA_TUPLE_PROTO) return;
    each_nested(part, [&](const nlattr* field) {
      if (mnl_attr_get_type(field) == CTA_PROTO_NUM) protocol = mnl_attr_get_u8(field);
      if (mnl_attr_get_type(field) == CTA_PROTO_DST_PORT) port = ntohs(mnl_attr_get_u16(field));
    });
  });
  return protocol == IPPROTO_UDP ? port : 0;
}

}  // namespace

Status forget_udp_flows(int family, const std::vector<uint16_t>& ports) {
  if (ports.empty()) return {};
  NetlinkSocket netlink = TRY(NetlinkSocket::open(NETLINK_NETFILTER));
  NetlinkBatch listing;
  open_flow_message(listing, IPCTNL_MSG_CT_GET, NLM_F_DUMP, family, "list connections");
  NetlinkReplies flows = TRY(netlink.query(listing));
  NetlinkBatch deletions;
  flows.each([&](const nlmsghdr* flow) {
    const nlattr* tuple = nullptr;
    const nlattr* zone = nullptr;
    each_attribute(flow, sizeof(nfgenmsg), [&](const nlattr* attribute) {
      if (mnl_attr_get_type(attribute) == CTA_TUPLE_ORIG) tuple = attribute;
      if (mnl_attr_get_type(attribute) == CTA_ZONE) zone = attribute;
    });
    if (!tuple || std::ranges::find(ports, udp_port(tuple)) == ports.end()) return;
    nlmsghdr* message = open_flow_message(deletions, IPCTNL_MSG_CT_DELETE, 0, family, "delete a tracked connection");
    mnl_attr_put(message, CTA_TUPLE_ORIG | NLA_F_NESTED, mnl_attr_get_payload_len(tuple), mnl_attr_get_payload(tuple));
    if (zone) mnl_attr_put(message, CTA_ZONE, mnl_attr_get_payload_len(zone), mnl_attr_get_payload(zone));
  });
  Status forgotten = netlink.transact(deletions);
  // Some expire by themselves in the meantime.
  if (!forgotten && forgotten.error().error_number != ENOENT) return forgotten;
  return {};
}

}  // namespace keelson
