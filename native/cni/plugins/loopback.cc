#include "cni/plugins/loopback.h"

#include <linux/if.h>

#include "cni/config_object.h"
#include "cni/netlink/addresses.h"
#include "cni/network_result.h"
#include "cni/plugins/container_namespace.h"

namespace keelson {

namespace {

struct Loopback {
  NetlinkSocket netlink;
  Link link;
};

Outcome<Loopback> find_loopback(const Fd& container) {
  NetlinkSocket netlink = TRY(open_netlink_inside(container));
  std::optional<Link> link = TRY(find_link(netlink, "lo"));
  if (!link) return refuse(ErrorCode::internal, "the network namespace has no lo");
  return Loopback{std::move(netlink), std::move(*link)};
}

Done loopback_status(const Invocation& invocation) {
  ConfigObject config(invocation.config, "");
  for (const char* key : {"cniVersion", "name", "type", "capabilities", "args", "runtimeConfig", "prevResult"}) {
    config.member(key);
  }
  return config.refuse_others();
}

bool is_loopback(const IpAddress& address) {
  return address.is_v4() ? address.bytes[0] == 127 : address == *parse_address("::1");
}

Outcome<std::string> loopback_add(const Invocation& invocation) {
  TRY(loopback_status(invocation));
  std::optional<NetworkResult> previous = TRY(parse_previous_result(invocation.part("prevResult")));
  Fd container = TRY(open_container_namespace(invocation));
  Loopback loopback = TRY(find_loopback(container));
  NetlinkBatch batch;
  set_link_up(batch, loopback.link);
  TRY(loopback.netlink.transact(batch));

  NetworkResult result;
  result.interfaces.emplace_back("lo", "00:00:00:00:00:00", invocation.netns);
  for (int family : {AF_INET, AF_INET6}) {
    bool first = true;
    for (const InterfaceAddress& found : TRY(list_addresses(loopback.netlink, loopback.link, family))) {
      if (!is_loopback(found.prefix.address)) {
        return refuse(ErrorCode::internal, "lo has " + to_string(found.prefix) + ", which is not a loopback address");
      }
      if (first) result.addresses.push_back({0, found.prefix, {}});
      first = false;
    }
  }
  return to_json(previous ? *previous : result, invocation.version);
}

Done loopback_del(const Invocation& invocation) {
  std::optional<Fd> container = TRY(open_remaining_namespace(invocation));
  if (!container) return {};
  Loopback loopback = TRY(find_loopback(*container));
  NetlinkBatch batch;
  set_link_down(batch, loopback.link);
  TRY(loopback.netlink.transact(batch));
  return {};
}

Done loopback_check(const Invocation& invocation) {
  Fd container = TRY(open_container_namespace(invocation));
  Loopback loopback = TRY(find_loopback(container));
  if (loopback.link.flags & IFF_UP) return {};
  return refuse(ErrorCode::internal, "loopback interface is down");
}

Done loopback_gc(const Invocation&) { return {}; }

}  // namespace

const Plugin loopback_plugin{"loopback", loopback_add, loopback_del, loopback_check, loopback_status, loopback_gc};

}  // namespace keelson
