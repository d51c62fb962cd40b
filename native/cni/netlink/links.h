// Network interfaces: finding, making, changing and deleting them.
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
  std::string kind;  // "bridge", "veth", empty for devices of another sort
  std::string mac;   // "02:42:…"
  unsigned flags = 0;
  uint8_t operational_state = 0;  // IF_OPER_* of linux/if.h
  uint32_t promiscuity = 0;
  int master = 0;
  int peer = 0;  // of a veth: the other end's index, in the other end's namespace
};

// Nothing if there is none.
Result<std::optional<Link>> find_link(NetlinkSocket& netlink, const std::string& name);
Result<std::optional<Link>> find_link(NetlinkSocket& netlink, int index);

// The link as soon as it can carry packets; as it is when it cannot after `milliseconds`. `events` must be subscribed
// to RTNLGRP_LINK.
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
// The host's end is up, and a port of its master; the container's end is down, inside `container`.
void add_veth(NetlinkBatch& batch, const VethPair& pair, const Fd& container);

void set_link_up(NetlinkBatch& batch, const Link& link);
void set_link_down(NetlinkBatch& batch, const Link& link);
void set_link_promiscuous(NetlinkBatch& batch, const Link& link);
// As it is, so that it stays so: a bridge follows the least of its ports until somebody has set it.
void pin_link_mac(NetlinkBatch& batch, const Link& link);
void set_port_options(NetlinkBatch& batch, const std::string& port, bool hairpin, bool isolated);

// Fine if there is none of the name, or if that is another kind of link, as where a pod has renamed its loopback, which
// nobody can delete. Once this returns, both ends are gone for everybody; what the kernel has still to wait for, it does in
// a process of its own (see the source).
Status delete_veth(const Fd& network_namespace, const std::string& name);

// Whether it has the form of a MAC address.
bool is_mac(const std::string& text);

}  // namespace keelson
