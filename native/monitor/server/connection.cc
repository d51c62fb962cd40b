#include "monitor/server/connection.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>

namespace keelson {

namespace {

using namespace std::chrono_literals;

constexpr auto request_limit = 10s;
constexpr auto no_progress_limit = 30s;
// The time that the daemon gives its clients to read the end of a session (closeMs): it reads no faster than they do.
constexpr auto session_progress_limit = 10min;
// How long a client may take to close the connection after the last frame. Anything it sends meanwhile is read and
// dropped, because closing a unix socket with unread bytes gives the peer ECONNRESET.
constexpr auto linger_limit = 2s;
constexpr size_t read_chunk = 64 << 10;

}  // namespace

Connection::Connection(Loop& loop, Fd socket, uint64_t id, RequestHandler on_request, GoneHandler on_gone)
    : loop_(loop),
      socket_(std::move(socket)),
      id_(id),
      on_request_(std::move(on_request)),
      on_gone_(std::move(on_gone)) {}

Status Connection::open() {
  watch_ = TRY(loop_.watch(socket_.get(), EPOLLIN, [self = weak_from_this()](uint32_t events) {
    if (auto connection = self.lock()) connection->on_event(events);
  }));
  deadline_ = loop_.after(request_limit, [this] { close(); });
  return {};
}

void Connection::on_event(uint32_t events) {
  if ((events & EPOLLIN) != 0) read_input();
  if (phase_ != Phase::closed && (events & EPOLLOUT) != 0) flush();
  bool nothing_to_read = paused_ || input_ended_ || (events & EPOLLIN) == 0;
  if (phase_ != Phase::closed && (events & (EPOLLHUP | EPOLLERR)) != 0 && nothing_to_read) close();
}

bool Connection::peer_is_gone() const {
  if (!socket_) return true;
  pollfd peer = {socket_.get(), 0, 0};
  return poll(&peer, 1, 0) > 0 && (peer.revents & (POLLHUP | POLLERR)) != 0;
}

void Connection::read_input() {
  ssize_t count = read(socket_.get(), loop_.buffers().for_reading(), read_chunk);
  if (count < 0) {
    if (errno != EAGAIN && errno != EINTR) close();
    return;
  }
  if (count == 0) {
    input_ended_ = true;
    // A client that half-closes after its request still waits for the reply.
    if (phase_ == Phase::request || phase_ == Phase::lingering) return close();
    return update_interest();
  }
  if (!open_for_frames()) return;
  in_.append(loop_.buffers().for_reading(), static_cast<size_t>(count));
  take_frames();
}

void Connection::take_frames() {
  if (taking_) return;  // re-entered by a call that resumed its own input: the loop below continues
  taking_ = true;
  size_t taken = 0;
  while (!paused_ && open_for_frames()) {
    size_t size = 0;
    auto frame = read_frame(std::string_view(in_).substr(taken), size);
    if (!frame) {
      fail_with(frame.error());
      break;
    }
    if (size == 0) break;
    take_frame(*frame);
    taken += size;
  }
  taking_ = false;
  in_.erase(0, taken);
  if (in_.empty()) in_ = std::string();
}

void Connection::take_frame(const Frame& frame) {
  if (phase_ == Phase::request) {
    if (frame.type == FrameType::request) return take_request(frame.payload);
    return fail_with(Error{Kind::protocol, "read a frame", {}, 0, "the first frame must be a REQUEST"});
  }
  auto byte = [&](size_t at) { return static_cast<unsigned>(static_cast<uint8_t>(frame.payload[at])); };
  switch (frame.type) {
    case FrameType::stdin_bytes:
      if (call_) call_->on_stdin(frame.payload);
      return;
    case FrameType::stdin_close:
      if (call_) call_->on_stdin_close();
      return;
    case FrameType::resize:
      if (call_) {
        call_->on_resize(static_cast<uint16_t>(byte(0) | byte(1) << 8), static_cast<uint16_t>(byte(2) | byte(3) << 8));
      }
      return;
    default:
      return fail_with(Error{Kind::protocol, "read a frame", {}, 0, "a second REQUEST on one connection"});
  }
}

void Connection::take_request(std::string_view payload) {
  phase_ = Phase::calling;
  deadline_.cancel();
  auto request = parse_json(payload);
  if (!request) return fail_with(Error{Kind::protocol, "parse the request", {}, 0, request.error().detail});
  keep_ = (*request)["keep"].boolean();
  on_request_(shared_from_this(), *request);
}

void Connection::send(FrameType type, std::string_view payload) {
  if (!may_send(type)) return;
  bool is_bytes = type == FrameType::stdout_bytes || type == FrameType::stderr_bytes;
  do {
    std::string_view chunk = is_bytes ? payload.substr(0, max_bytes_payload) : payload;
    payload.remove_prefix(chunk.size());
    auto header = frame_header(type, chunk.size());
    size_t written = 0;
    if (pending() == 0) {
      iovec parts[2] = {{header.data(), header.size()}, {const_cast<char*>(chunk.data()), chunk.size()}};
      msghdr message{};
      message.msg_iov = parts;
      message.msg_iovlen = 2;
      ssize_t count = sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
      if (count > 0) written = static_cast<size_t>(count);
    }
    // A dead socket reports EPOLLHUP; until then its bytes are queued like any others.
    if (written < header.size()) out_.append(header.data() + written, header.size() - written);
    size_t skip = written > header.size() ? written - header.size() : 0;
    out_.append(chunk.substr(skip));
  } while (!payload.empty());
  update_interest();
}

void Connection::started(pid_t pid) {
  JsonWriter json;
  json.begin_object().key("pid").value(pid).end_object();
  send(FrameType::started, json.text());
}

void Connection::flush() {
  while (pending() > 0) {
    ssize_t count = ::send(socket_.get(), out_.data() + out_written_, pending(), MSG_NOSIGNAL);
    if (count < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) return close();
      break;
    }
    out_written_ += static_cast<size_t>(count);
    if (must_progress_) expect_progress();
  }
  if (pending() == 0) {
    out_ = std::string();
    out_written_ = 0;
  } else if (out_written_ >= read_chunk) {
    out_.erase(0, out_written_);
    out_written_ = 0;
  }
  if (phase_ == Phase::flushing && pending() == 0) return end_call();
  if (phase_ == Phase::calling && call_ && has_room()) {
    auto call = call_;
    call->on_room();
  }
  if (phase_ != Phase::closed) update_interest();
}

void Connection::finish(FrameType type, std::string_view payload) {
  if (!may_send(type)) return;
  send(type, payload);
  keep_ = keep_ && type == FrameType::reply;
  phase_ = Phase::flushing;
  paused_ = false;
  if (pending() == 0) return end_call();
  expect_progress();
  update_interest();
}

void Connection::cut_off(const Error& error) {
  const auto call = call_;
  fail_with(error);
  if (call) call->on_closed();
}

void Connection::end_call() {
  slot_.reset();
  if (keep_ && !input_ended_) await_request();
  else linger();
}

void Connection::await_request() {
  phase_ = Phase::request;
  must_progress_ = false;
  deadline_.cancel();
  loop_.defer([last = std::move(call_)] {});  // it may be the caller
  update_interest();
}

void Connection::linger() {
  if (input_ended_) return close();
  phase_ = Phase::lingering;
  must_progress_ = false;
  shutdown(socket_.get(), SHUT_WR);
  deadline_ = loop_.after(linger_limit, [this] { close(); });
  update_interest();
}

void Connection::expect_progress() {
  must_progress_ = true;
  deadline_ = loop_.after(slot_ ? session_progress_limit : no_progress_limit, [this] { close(); });
}

void Connection::pause_input(bool paused) {
  if (paused_ == paused || !open_for_frames()) return;
  paused_ = paused;
  if (!paused) take_frames();
  if (phase_ != Phase::closed) update_interest();
}

void Connection::update_interest() {
  // EPOLLHUP is always reported, so a client that dies while its input is paused is detected.
  uint32_t events = EPOLLHUP;
  if (!paused_ && !input_ended_) events |= EPOLLIN;
  if (pending() > 0) events |= EPOLLOUT;
  watch_.want(events);
}

void Connection::close() {
  if (phase_ == Phase::closed) return;
  bool cancelled = open_for_frames();
  phase_ = Phase::closed;
  watch_.stop();
  deadline_.cancel();
  socket_.reset();
  slot_.reset();
  in_ = std::string();
  out_ = std::string();
  out_written_ = 0;
  on_gone_(id_);
  if (cancelled && call_) call_->on_closed();
}

}  // namespace keelson
