#include "cni/plugins/bridge_device.h"

#include <linux/if.h>

#include "cni/netlink/addresses.h"
#include "cni/netlink/sysctl.h"

namespace keelson {

namespace {

constexpr std::string_view no_mac = "00:00:00:00:00:00";

Outcome<Link> find_or_make(NetlinkSocket& netlink, const BridgeConfig& config) {
  std::optional<Link> bridge = TRY(find_link(netlink, config.bridge));
  if (bridge) return std::move(*bridge);
  NetlinkBatch batch;
  add_bridge(batch, config.bridge, config.mtu);
  Status made = netlink.transact(batch);
  // EEXIST: a concurrent ADD created it first.
  if (!made && made.error().error_number != EEXIST) return std::unexpected(made.error());
  bridge = TRY(find_link(netlink, config.bridge));
  if (!bridge) return refuse(ErrorCode::internal, "could not lookup \"" + config.bridge + "\"");
  // Only the plugin sets its routes.
  try_sysctl("net/ipv6/conf/" + config.bridge + "/accept_ra", "0");
  return std::move(*bridge);
}

}  // namespace

Outcome<Link> ensure_bridge(NetlinkSocket& netlink, const BridgeConfig& config) {
  Link bridge = TRY(find_or_make(netlink, config));
  if (bridge.kind != "bridge") {
    return refuse(ErrorCode::internal, "\"" + config.bridge + "\" already exists but is not a bridge");
  }
  NetlinkBatch batch;
  if (config.promiscuous && !(bridge.flags & IFF_PROMISC)) set_link_promiscuous(batch, bridge);
  if (!(bridge.flags & IFF_UP)) set_link_up(batch, bridge);
  TRY(netlink.transact(batch));
  return bridge;
}

Done ensure_gateway_address(NetlinkSocket& netlink, const Link& bridge, const IpPrefix& gateway, bool force) {
  NetlinkBatch batch;
  for (const InterfaceAddress& found : TRY(list_addresses(netlink, bridge, gateway.address.family))) {
    if (found.prefix == gateway) return {};
    // A bridge may have several IPv6 addresses, as long as their subnets do not overlap.
    bool in_the_way =
        gateway.address.is_v4() || contains(found.prefix, gateway.address) || contains(gateway, found.prefix.address);
    if (!in_the_way) continue;
    if (!force) {
      return refuse(ErrorCode::internal,
                    "\"" + bridge.name + "\" already has an IP address different from " + to_string(gateway));
    }
    delete_address(batch, bridge, found.prefix);
  }
  // Only the bridge has this address: no duplicate detection, so that the first pod need not wait.
  add_address(batch, bridge, gateway, false);
  // A bridge that had no ports, and so no MAC address, has the first port's by now.
  std::optional<Link> with_port = TRY(find_link(netlink, bridge.name));
  if (with_port) pin_link_mac(batch, bridge.mac == no_mac ? *with_port : bridge);
  Status added = netlink.transact(batch);
  // A concurrent ADD was faster, with the addition or with the removal.
  if (!added && added.error().error_number != EEXIST && added.error().error_number != EADDRNOTAVAIL) {
    return std::unexpected(added.error());
  }
  return {};
}

}  // namespace keelson
