// Finds, creates, changes and deletes network interfaces.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cni/netlink/netlink.h"
#include "cni/netlink/network_namespace.h"
#include "common/error.h"

namespace keelson {

struct Link {
  int index = 0;
  std::string name;
  std::string kind;  // "bridge", "veth" …; empty for devices without a kind
  std::string mac;   // "02:42:…"
  unsigned flags = 0;
  uint8_t operational_state = 0;  // IF_OPER_* of linux/if.h
  uint32_t promiscuity = 0;
  int master = 0;
  int peer = 0;  // for a veth: the other end's index, in the other end's namespace
};

// Nothing if there is no such link.
Result<std::optional<Link>> find_link(NetlinkSocket& netlink, const std::string& name);
Result<std::optional<Link>> find_link(NetlinkSocket& netlink, int index);

// Returns the link as soon as it can carry packets, or in its current state after `milliseconds`. `events` must be
// subscribed to RTNLGRP_LINK.
Result<Link> await_operational(NetlinkSocket& netlink, NetlinkSocket& events, const std::string& name,
                               int milliseconds);

void add_bridge(NetlinkBatch& batch, const std::string& name, int64_t mtu);

struct VethPair {
  std::string host_name;
  std::string container_name;
  std::string container_mac;  // empty: the kernel's choice
  int64_t mtu = 0;            // 0: the kernel's default
  int master = 0;             // the host end's; 0 for none
};
// The host's end is up, as a port of its master; the container's end is down, in the namespace `container`.
void add_veth(NetlinkBatch& batch, const VethPair& pair, const Fd& container);

void set_link_up(NetlinkBatch& batch, const Link& link);
void set_link_down(NetlinkBatch& batch, const Link& link);
void set_link_promiscuous(NetlinkBatch& batch, const Link& link);
// Sets the MAC address to its current value, so that it stays: a bridge takes the lowest one of its ports until one is set.
void pin_link_mac(NetlinkBatch& batch, const Link& link);
void set_port_options(NetlinkBatch& batch, const std::string& port, bool hairpin, bool isolated);

// Does nothing if there is no link of that name, or if it is not a veth: a pod may have renamed its loopback, which cannot
// be deleted. Once this returns, nobody can see or use either end; the rest of the deletion happens in a separate process
// (see the source).
Status delete_veth(const Fd& network_namespace, const std::string& name);

// Whether the text is a valid MAC address.
bool is_mac(const std::string& text);

}  // namespace keelson
