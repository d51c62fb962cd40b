#include "cni/netlink/routes.h"

#include <linux/rtnetlink.h>

namespace keelson {

namespace {

void put_ip(nlmsghdr* message, uint16_t type, const IpAddress& address) {
  if (address) mnl_attr_put(message, type, address.size(), address.bytes.data());
}

struct Form {
  const Link* link = nullptr;  // null: the one that leads to the gateway
  uint16_t flags = NLM_F_CREATE | NLM_F_EXCL;
  uint8_t scope = RT_SCOPE_UNIVERSE;
  uint8_t protocol = RTPROT_BOOT;
  IpAddress gateway;
  IpAddress source;
};

nlmsghdr* put_route(NetlinkBatch& batch, uint16_t type, const IpPrefix& destination, const Form& form) {
  std::string step = (type == RTM_NEWROUTE ? "add the route to " : "remove the route to ") + to_string(destination);
  if (form.gateway) step += " via " + to_string(form.gateway);
  if (form.link) step += " on " + form.link->name;
  nlmsghdr* message = batch.open(type, form.flags, std::move(step));
  auto* header = NetlinkBatch::header<rtmsg>(message);
  header->rtm_family = static_cast<uint8_t>(destination.address.family);
  header->rtm_dst_len = static_cast<uint8_t>(destination.length);
  header->rtm_table = RT_TABLE_MAIN;
  header->rtm_scope = form.scope;
  header->rtm_protocol = type == RTM_NEWROUTE ? form.protocol : RTPROT_UNSPEC;
  header->rtm_type = type == RTM_NEWROUTE ? RTN_UNICAST : RTN_UNSPEC;
  if (destination.length > 0) put_ip(message, RTA_DST, network_of(destination));
  put_ip(message, RTA_GATEWAY, form.gateway);
  put_ip(message, RTA_PREFSRC, form.source);
  if (form.link) mnl_attr_put_u32(message, RTA_OIF, static_cast<uint32_t>(form.link->index));
  return message;
}

bool matches(const nlmsghdr* message, const RouteResult& wanted) {
  auto* header = static_cast<const rtmsg*>(mnl_nlmsg_get_payload(message));
  int family = wanted.destination.address.family;
  if (message->nlmsg_type != RTM_NEWROUTE || header->rtm_family != family) return false;
  if (header->rtm_dst_len != wanted.destination.length) return false;
  IpAddress destination = default_destination(family).address;
  IpAddress gateway;
  each_attribute(message, sizeof(rtmsg), [&](const nlattr* attribute) {
    uint16_t type = mnl_attr_get_type(attribute);
    if (type == RTA_DST) destination = address_of(family, mnl_attr_get_payload(attribute));
    if (type == RTA_GATEWAY) gateway = address_of(family, mnl_attr_get_payload(attribute));
  });
  return destination == wanted.destination.address && (!wanted.gateway || gateway == wanted.gateway);
}

}  // namespace

void add_route(NetlinkBatch& batch, const Link& link, const RouteResult& route) {
  Form form{.link = &link, .gateway = route.gateway, .source = {}};
  // Without NLM_F_EXCL, so that another route to the same destination is added, as in the reference CNI plugins.
  form.flags = NLM_F_CREATE;
  if (route.scope) form.scope = static_cast<uint8_t>(*route.scope);
  nlmsghdr* message = put_route(batch, RTM_NEWROUTE, route.destination, form);
  if (route.priority != 0) mnl_attr_put_u32(message, RTA_PRIORITY, static_cast<uint32_t>(route.priority));
  if (route.table) mnl_attr_put_u32(message, RTA_TABLE, static_cast<uint32_t>(*route.table));
  if (route.mtu == 0 && route.advertised_mss == 0) return;
  nlattr* metrics = mnl_attr_nest_start(message, RTA_METRICS);
  if (route.mtu != 0) mnl_attr_put_u32(message, RTAX_MTU, static_cast<uint32_t>(route.mtu));
  if (route.advertised_mss != 0) mnl_attr_put_u32(message, RTAX_ADVMSS, static_cast<uint32_t>(route.advertised_mss));
  mnl_attr_nest_end(message, metrics);
}

void add_link_route(NetlinkBatch& batch, const Link& link, const IpPrefix& destination, const IpAddress& source) {
  put_route(batch, RTM_NEWROUTE, destination, {.link = &link, .scope = RT_SCOPE_LINK, .gateway = {}, .source = source});
}

void add_gateway_route(NetlinkBatch& batch, const Link& link, const IpPrefix& destination, const IpAddress& gateway,
                       const IpAddress& source) {
  put_route(batch, RTM_NEWROUTE, destination, {.link = &link, .gateway = gateway, .source = source});
}

void add_host_route(NetlinkBatch& batch, const Link& link, const IpAddress& destination) {
  put_route(batch, RTM_NEWROUTE, {destination, destination.bits()},
            {.link = &link, .scope = RT_SCOPE_HOST, .gateway = {}, .source = {}});
}

void delete_route(NetlinkBatch& batch, const Link& link, const IpPrefix& destination) {
  put_route(batch, RTM_DELROUTE, destination,
            {.link = &link, .flags = 0, .scope = RT_SCOPE_NOWHERE, .gateway = {}, .source = {}});
}

void replace_route(NetlinkBatch& batch, const RouteResult& route) {
  Form form{.flags = NLM_F_CREATE | NLM_F_REPLACE, .protocol = RTPROT_STATIC, .gateway = route.gateway, .source = {}};
  put_route(batch, RTM_NEWROUTE, route.destination, form);
}

Result<bool> has_route(NetlinkSocket& netlink, const RouteResult& route) {
  NetlinkBatch batch;
  nlmsghdr* request = batch.open(RTM_GETROUTE, NLM_F_DUMP, "list routes");
  auto* header = NetlinkBatch::header<rtmsg>(request);
  header->rtm_family = static_cast<uint8_t>(route.destination.address.family);
  bool found = false;
  TRY(netlink.query(batch)).each([&](const nlmsghdr* message) { found = found || matches(message, route); });
  return found;
}

Result<std::optional<int>> interface_towards(NetlinkSocket& netlink, const IpAddress& destination) {
  NetlinkBatch batch;
  nlmsghdr* request = batch.open(RTM_GETROUTE, 0, "look up the route to " + to_string(destination));
  auto* header = NetlinkBatch::header<rtmsg>(request);
  header->rtm_family = static_cast<uint8_t>(destination.family);
  header->rtm_dst_len = static_cast<uint8_t>(destination.bits());
  put_ip(request, RTA_DST, destination);
  Result<NetlinkReplies> replies = netlink.query(batch);
  if (!replies && replies.error().error_number == ENETUNREACH) return std::nullopt;
  std::optional<int> index;
  TRY(std::move(replies)).each([&](const nlmsghdr* message) {
    each_attribute(message, sizeof(rtmsg), [&](const nlattr* attribute) {
      if (mnl_attr_get_type(attribute) == RTA_OIF) index = static_cast<int>(mnl_attr_get_u32(attribute));
    });
  });
  return index;
}

}  // namespace keelson
