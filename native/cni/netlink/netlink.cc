#include "cni/netlink/netlink.h"

#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <poll.h>
#include <sys/socket.h>

#include <cstring>

namespace keelson {

namespace {

constexpr size_t message_room = 16 * 1024;
constexpr size_t receive_room = 64 * 1024;
constexpr int answer_limit_ms = 10'000;
constexpr int interrupted_dumps = 20;
// Acknowledgements queue up while messages are processed: about 250 fill the default buffer.
constexpr size_t messages_at_once = 64;
// For more rules or messages at once than fit into the default buffers; the kernel charges each message a page.
constexpr int buffer_bytes = 8 * 1024 * 1024;

nlmsghdr* message_at(std::vector<uint8_t>& bytes, size_t at) { return reinterpret_cast<nlmsghdr*>(bytes.data() + at); }

// errno of an acknowledgement, 0 for success.
int refusal(const nlmsghdr* message) { return -static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(message))->error; }

void append(std::vector<uint8_t>& bytes, const nlmsghdr* message) {
  auto* begin = reinterpret_cast<const uint8_t*>(message);
  bytes.insert(bytes.end(), begin, begin + message->nlmsg_len);
  bytes.resize(MNL_ALIGN(bytes.size()));
}

// The message that begins or ends an nftables transaction.
void append_fence(std::vector<uint8_t>& bytes, uint16_t type, uint32_t sequence) {
  uint8_t buffer[MNL_ALIGN(sizeof(nlmsghdr)) + MNL_ALIGN(sizeof(nfgenmsg))] = {};
  nlmsghdr* message = mnl_nlmsg_put_header(buffer);
  message->nlmsg_type = type;
  message->nlmsg_flags = NLM_F_REQUEST;
  message->nlmsg_seq = sequence;
  auto* header = NetlinkBatch::header<nfgenmsg>(message);
  header->nfgen_family = AF_UNSPEC;
  header->res_id = htons(NFNL_SUBSYS_NFTABLES);
  append(bytes, message);
}

}  // namespace

nlmsghdr* NetlinkBatch::open(uint16_t type, uint16_t flags, std::string step) {
  close();
  if (!scratch_) scratch_ = std::make_unique<uint8_t[]>(message_room);
  open_ = mnl_nlmsg_put_header(scratch_.get());
  open_->nlmsg_type = type;
  open_->nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | NLM_F_ACK | flags);
  steps_.push_back(std::move(step));
  return open_;
}

void NetlinkBatch::close() {
  if (open_) append(bytes_, open_);
  open_ = nullptr;
}

Result<NetlinkSocket> NetlinkSocket::open(int protocol) {
  NetlinkSocket netlink(mnl_socket_open2(protocol, SOCK_CLOEXEC));
  if (!netlink.socket_) return fail_errno("open a netlink socket");
  if (mnl_socket_bind(netlink.socket_.get(), 0, MNL_SOCKET_AUTOPID) != 0) return fail_errno("bind a netlink socket");
  // Makes dumps return only what was requested. Old kernels do not support this and return more.
  int yes = 1;
  if (protocol == NETLINK_ROUTE) {
    setsockopt(netlink.descriptor(), SOL_NETLINK, NETLINK_GET_STRICT_CHK, &yes, sizeof yes);
  }
  return netlink;
}

Status NetlinkSocket::send(std::span<const uint8_t> bytes) {
  if (bytes.size() > 64 * 1024) {
    setsockopt(descriptor(), SOL_SOCKET, SO_SNDBUFFORCE, &buffer_bytes, sizeof buffer_bytes);
    setsockopt(descriptor(), SOL_SOCKET, SO_RCVBUFFORCE, &buffer_bytes, sizeof buffer_bytes);
  }
  if (mnl_socket_sendto(socket_.get(), bytes.data(), bytes.size()) < 0) return fail_errno("send to netlink");
  return {};
}

Result<NetlinkReplies> NetlinkSocket::receive(int milliseconds) {
  pollfd readable{descriptor(), POLLIN, 0};
  int ready = poll(&readable, 1, milliseconds);
  if (ready < 0 && errno == EINTR) return NetlinkReplies();
  if (ready < 0) return fail_errno("wait for netlink");
  if (ready == 0) return fail(Kind::timeout, "wait for netlink", "the kernel did not answer in time");
  auto buffer = std::make_unique_for_overwrite<uint8_t[]>(receive_room);
  ssize_t count = mnl_socket_recvfrom(socket_.get(), buffer.get(), receive_room);
  if (count < 0) return fail_errno("receive from netlink");
  NetlinkReplies replies;
  replies.bytes_.assign(buffer.get(), buffer.get() + count);
  return replies;
}

// Receives `count` acknowledgements of the batch, whose first message has number `first`; the first refusal goes to
// `outcome`. Skips messages that an earlier failure left unread.
Status NetlinkSocket::await(const NetlinkBatch& batch, uint32_t first, size_t count, Status& outcome) {
  for (size_t done = 0; done < count;) {
    TRY(receive(answer_limit_ms)).each([&](const nlmsghdr* message) {
      if (message->nlmsg_type != NLMSG_ERROR || message->nlmsg_seq - first >= batch.steps_.size()) return;
      ++done;
      int error = refusal(message);
      if (error != 0 && outcome) outcome = fail_errno(batch.steps_[message->nlmsg_seq - first], error);
    });
  }
  return {};
}

Status NetlinkSocket::transact(NetlinkBatch& batch) {
  batch.close();
  Status outcome;
  uint32_t first = sequence_;
  for (size_t end = 0; end < batch.bytes_.size();) {
    size_t begin = end;
    size_t count = 0;
    for (; count < messages_at_once && end < batch.bytes_.size(); ++count) {
      nlmsghdr* message = message_at(batch.bytes_, end);
      message->nlmsg_seq = sequence_++;
      end += MNL_ALIGN(message->nlmsg_len);
    }
    TRY(send(std::span(batch.bytes_).subspan(begin, end - begin)));
    TRY(await(batch, first, count, outcome));
  }
  return outcome;
}

// Only the last message requests an acknowledgement. For the others the kernel replies only if they are refused, before it
// acknowledges the last.
Status NetlinkSocket::transact_atomically(NetlinkBatch& batch) {
  batch.close();
  if (batch.is_empty()) return {};
  std::vector<uint8_t> bytes;
  uint32_t first = sequence_;
  uint32_t last = first + static_cast<uint32_t>(batch.steps_.size()) - 1;
  sequence_ = last + 2;
  append_fence(bytes, NFNL_MSG_BATCH_BEGIN, last + 1);
  for (size_t at = 0; at < batch.bytes_.size(); at += MNL_ALIGN(message_at(batch.bytes_, at)->nlmsg_len)) {
    nlmsghdr* message = message_at(batch.bytes_, at);
    message->nlmsg_seq = first++;
    if (message->nlmsg_seq != last) message->nlmsg_flags &= static_cast<uint16_t>(~NLM_F_ACK);
    append(bytes, message);
  }
  append_fence(bytes, NFNL_MSG_BATCH_END, last + 1);
  TRY(send(bytes));
  first = last + 1 - static_cast<uint32_t>(batch.steps_.size());

  Status outcome;
  for (bool done = false; !done;) {
    TRY(receive(answer_limit_ms)).each([&](const nlmsghdr* message) {
      if (message->nlmsg_type != NLMSG_ERROR || message->nlmsg_seq - first > batch.steps_.size()) return;
      int error = refusal(message);
      // The fences' sequence number stands for the whole transaction.
      bool whole = message->nlmsg_seq == last + 1;
      if (error != 0 && outcome) {
        outcome = fail_errno(whole ? "change nftables" : batch.steps_[message->nlmsg_seq - first], error);
      }
      done = done || message->nlmsg_seq == last || (whole && error != 0);
    });
  }
  return outcome;
}

Result<NetlinkReplies> NetlinkSocket::query(NetlinkBatch& batch) {
  batch.close();
  for (int attempt = 0; attempt < interrupted_dumps; ++attempt) {
    uint32_t sequence = sequence_++;
    message_at(batch.bytes_, 0)->nlmsg_seq = sequence;
    TRY(send(batch.bytes_));
    NetlinkReplies all;
    bool interrupted = false;
    int error = 0;
    for (bool done = false; !done;) {
      TRY(receive(answer_limit_ms)).each([&](const nlmsghdr* message) {
        if (message->nlmsg_seq != sequence) return;
        if (message->nlmsg_flags & NLM_F_DUMP_INTR) interrupted = true;
        if (message->nlmsg_type == NLMSG_ERROR) error = refusal(message);
        if (message->nlmsg_type == NLMSG_ERROR || message->nlmsg_type == NLMSG_DONE) done = true;
        else append(all.bytes_, message);
      });
    }
    if (error != 0) return fail_errno(batch.steps_.front(), error);
    if (!interrupted) return all;
  }
  return fail(Kind::busy, batch.steps_.front(), "it changes faster than it can be read");
}

Status NetlinkSocket::subscribe(int group) {
  int joined = mnl_socket_setsockopt(socket_.get(), NETLINK_ADD_MEMBERSHIP, &group, sizeof group);
  if (joined != 0) return fail_errno("subscribe to netlink");
  return {};
}

}  // namespace keelson
