// Requests to the kernel over netlink (libmnl): several messages in one system call, each acknowledged or refused with
// what it was for, every wait bounded.
#pragma once

#include <libmnl/libmnl.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/error.h"

namespace keelson {

// Calls `visit(const nlattr*)` for each attribute behind a family's header of `header_size` bytes. libmnl's own macros
// for it are C.
template <typename Visit>
void each_attribute(const nlmsghdr* message, size_t header_size, Visit visit) {
  auto* attribute = static_cast<const nlattr*>(mnl_nlmsg_get_payload_offset(message, header_size));
  auto* end = static_cast<const char*>(mnl_nlmsg_get_payload_tail(message));
  for (; mnl_attr_ok(attribute, static_cast<int>(end - reinterpret_cast<const char*>(attribute)));
       attribute = mnl_attr_next(attribute)) {
    visit(attribute);
  }
}

// The same for each attribute inside another.
template <typename Visit>
void each_nested(const nlattr* nest, Visit visit) {
  auto* attribute = static_cast<const nlattr*>(mnl_attr_get_payload(nest));
  auto* end = static_cast<const char*>(mnl_attr_get_payload(nest)) + mnl_attr_get_payload_len(nest);
  for (; mnl_attr_ok(attribute, static_cast<int>(end - reinterpret_cast<const char*>(attribute)));
       attribute = mnl_attr_next(attribute)) {
    visit(attribute);
  }
}

// Messages that are handled by the kernel in order.
class NetlinkBatch {
 public:
  // Begins a message and ends the one before. `step` says in an error what it was for. The pointer is good until the
  // next call; a message has room for 8 KiB of attributes.
  nlmsghdr* open(uint16_t type, uint16_t flags, std::string step);
  // The family's own header, behind nlmsghdr, zeroed.
  template <typename T>
  static T* header(nlmsghdr* message) {
    return static_cast<T*>(mnl_nlmsg_put_extra_header(message, sizeof(T)));
  }

  bool is_empty() const { return steps_.empty(); }

 private:
  friend class NetlinkSocket;
  void close();

  std::vector<uint8_t> bytes_;      // of all messages before the open one
  std::vector<std::string> steps_;  // of all messages; the index is the sequence number
  std::unique_ptr<uint8_t[]> scratch_;
  nlmsghdr* open_ = nullptr;
};

// Messages as the kernel answered them.
class NetlinkReplies {
 public:
  // Calls `visit(const nlmsghdr*)` for each.
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

// Of the network namespace that it was opened in, for good.
class NetlinkSocket {
 public:
  // `protocol`: NETLINK_ROUTE or NETLINK_NETFILTER.
  static Result<NetlinkSocket> open(int protocol);

  // Sends the messages and waits until each is done, also behind a refusal; the first refusal is the error.
  Status transact(NetlinkBatch& batch);
  // The same of nftables: all messages or none.
  Status transact_atomically(NetlinkBatch& batch);
  // Sends one message, of NLM_F_DUMP or not; what the kernel has to say to it.
  Result<NetlinkReplies> query(NetlinkBatch& batch);
  // Has the kernel send what happens of `group`, from now on.
  Status subscribe(int group);
  // The next messages that come of themselves, at least one; Kind::timeout after `milliseconds`.
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
