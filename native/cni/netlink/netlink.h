// Requests to the kernel over netlink (libmnl): several messages in one system call. A refused one yields an error that
// says what it was for. Every wait has a timeout.
#pragma once

#include <libmnl/libmnl.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/error.h"

namespace keelson {

// Calls `visit(const nlattr*)` for each attribute after a family's header of `header_size` bytes. libmnl's own macros for
// this are C only.
template <typename Visit>
void each_attribute(const nlmsghdr* message, size_t header_size, Visit visit) {
  auto* attribute = static_cast<const nlattr*>(mnl_nlmsg_get_payload_offset(message, header_size));
  auto* end = static_cast<const char*>(mnl_nlmsg_get_payload_tail(message));
  for (; mnl_attr_ok(attribute, static_cast<int>(end - reinterpret_cast<const char*>(attribute)));
       attribute = mnl_attr_next(attribute)) {
    visit(attribute);
  }
}

// The same for each attribute nested in another.
template <typename Visit>
void each_nested(const nlattr* nest, Visit visit) {
  auto* attribute = static_cast<const nlattr*>(mnl_attr_get_payload(nest));
  auto* end = static_cast<const char*>(mnl_attr_get_payload(nest)) + mnl_attr_get_payload_len(nest);
  for (; mnl_attr_ok(attribute, static_cast<int>(end - reinterpret_cast<const char*>(attribute)));
       attribute = mnl_attr_next(attribute)) {
    visit(attribute);
  }
}

// Messages that the kernel processes in order.
class NetlinkBatch {
 public:
  // Begins a message and ends the previous one. `step` is for errors. The pointer is valid until the next call; a message
  // has room for 8 KiB of attributes.
  nlmsghdr* open(uint16_t type, uint16_t flags, std::string step);
  // Adds the family's own header, zeroed, after nlmsghdr.
  template <typename T>
  static T* header(nlmsghdr* message) {
    return static_cast<T*>(mnl_nlmsg_put_extra_header(message, sizeof(T)));
  }

  bool is_empty() const { return steps_.empty(); }

 private:
  friend class NetlinkSocket;
  void close();

  std::vector<uint8_t> bytes_;      // all messages before the open one
  std::vector<std::string> steps_;  // of all messages, in order
  std::unique_ptr<uint8_t[]> scratch_;
  nlmsghdr* open_ = nullptr;
};

// Messages received from the kernel.
class NetlinkReplies {
 public:
  // Calls `visit(const nlmsghdr*)` for each message.
  template <typename Visit>
  void each(Visit visit) const {
    int left = static_cast<int>(bytes_.size());
    auto* message = reinterpret_cast<const nlmsghdr*>(bytes_.data());
    for (; mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left)) visit(message);
  }

 private:
  friend class NetlinkSocket;
  std::vector<uint8_t> bytes_;
};

// A netlink socket. It stays in the network namespace that it was opened in.
class NetlinkSocket {
 public:
  // `protocol`: NETLINK_ROUTE or NETLINK_NETFILTER.
  static Result<NetlinkSocket> open(int protocol);

  // Sends all messages and waits until each is processed, even after one is refused. Returns the first refusal.
  Status transact(NetlinkBatch& batch);
  // The same for nftables, as one transaction: all messages take effect or none.
  Status transact_atomically(NetlinkBatch& batch);
  // Sends one message, with or without NLM_F_DUMP, and returns the kernel's replies.
  Result<NetlinkReplies> query(NetlinkBatch& batch);
  // Subscribes to the notifications of a multicast group.
  Status subscribe(int group);
  // Receives at least one notification; Kind::timeout after `milliseconds`.
  Result<NetlinkReplies> receive(int milliseconds);
  int descriptor() const { return mnl_socket_get_fd(socket_.get()); }

 private:
  struct Close {
    void operator()(mnl_socket* socket) const { mnl_socket_close(socket); }
  };
  explicit NetlinkSocket(mnl_socket* socket) : socket_(socket) {}
  Status send(std::span<const uint8_t> bytes);
  Status await(const NetlinkBatch& batch, uint32_t first, size_t count, Status& outcome);

  std::unique_ptr<mnl_socket, Close> socket_;
  uint32_t sequence_ = 0;
};

}  // namespace keelson
