#include "monitor/streams/port_forward.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <optional>

#include "monitor/streams/stdio.h"

namespace keelson {

namespace {

using namespace std::chrono_literals;

constexpr auto connect_limit = 10s;
// How long the client's remaining input may take to be written after the pod's side has ended.
constexpr auto last_input_limit = 1s;

// A socket stays in the namespace that it was created in, even if its owner enters another one.
Result<Fd> socket_in_pod(const Sandbox& sandbox, int family) {
  constexpr int type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
  if (!sandbox.net_ns) {
    Fd plain(socket(family, type, 0));
    if (!plain) return fail_errno("create a socket");
    return plain;
  }
  Fd home(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!home) return fail_errno("open the monitor's own network namespace");
  if (setns(sandbox.net_ns.get(), CLONE_NEWNET) != 0) return fail_errno("enter the pod's network namespace");
  Fd inside(socket(family, type, 0));
  const int error = errno;
  if (setns(home.get(), CLONE_NEWNET) != 0) return fail_errno("return to the host's network namespace");
  if (!inside) return fail_errno("create a socket in the pod's network namespace", error);
  return inside;
}

// Starts a non-blocking connect to localhost:port inside the pod: once the socket is writable, SO_ERROR is the result.
Result<Fd> connect_in_pod(const Sandbox& sandbox, uint16_t port, bool ipv6) {
  Fd connecting = TRY(socket_in_pod(sandbox, ipv6 ? AF_INET6 : AF_INET));
  sockaddr_in v4 = {};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(port);
  v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  sockaddr_in6 v6 = {};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(port);
  v6.sin6_addr = in6addr_loopback;
  const auto* address = ipv6 ? reinterpret_cast<const sockaddr*>(&v6) : reinterpret_cast<const sockaddr*>(&v4);
  const socklen_t size = ipv6 ? sizeof v6 : sizeof v4;
  if (connect(connecting.get(), address, size) != 0 && errno != EINPROGRESS) {
    return fail_errno("connect to port " + std::to_string(port));
  }
  return connecting;
}

class PortForward : public Call {
 public:
  PortForward(Context& context, Connection& client, uint16_t port) : context_(context), client_(client), port_(port) {}

  void begin() {
    limit_ = context_.loop.after(connect_limit, [this] {
      watch_.stop();
      fail_connect(ETIMEDOUT);
    });
    client_.pause_input(true);
    try_connect();
  }

  void on_stdin(std::string_view bytes) override {
    if (input_) input_->write_from(client_, bytes);
  }
  void on_stdin_close() override {
    if (input_) input_->end();
  }
  void on_room() override {
    if (output_) output_->resume();
  }
  void on_closed() override {
    watch_.stop();
    limit_.cancel();
  }

 private:
  void try_connect();
  void on_connected();
  void try_next(int error);
  void fail_connect(int error);
  Status join();
  void on_output_end();
  void answer();

  Context& context_;
  Connection& client_;  // owns this
  uint16_t port_;
  bool ipv6_ = false;
  int ipv4_error_ = 0;  // reported if both fail: in a pod without IPv6, the other error says only that
  bool output_ended_ = false;
  Fd socket_;  // while connecting
  Loop::Watch watch_;
  Loop::Timer limit_;
  std::unique_ptr<InputPipe> input_;
  std::optional<OutputPump> output_;
};

void PortForward::try_connect() {
  auto connecting = connect_in_pod(context_.sandbox, port_, ipv6_);
  if (!connecting) return try_next(connecting.error().error_number);
  socket_ = std::move(*connecting);
  auto watch = context_.loop.watch(socket_.get(), EPOLLOUT, [this](uint32_t) {
    watch_.stop();
    on_connected();
  });
  if (!watch) return client_.fail_with(watch.error());
  watch_ = std::move(*watch);
}

void PortForward::on_connected() {
  int error = 0;
  socklen_t size = sizeof error;
  if (getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
  if (error != 0) return try_next(error);
  limit_.cancel();
  client_.started(0);
  if (Status joined = join(); !joined) return client_.fail_with(joined.error());
  client_.pause_input(false);
}

void PortForward::try_next(int error) {
  socket_.reset();
  if (ipv6_) return fail_connect(ipv4_error_);
  ipv6_ = true;
  ipv4_error_ = error;
  try_connect();
}

void PortForward::fail_connect(int error) {
  limit_.cancel();
  client_.fail_with(Error{error == ETIMEDOUT ? Kind::timeout : Kind::system,
                          "connect to localhost:" + std::to_string(port_) + " in the pod", {}, error, {}});
}

Status PortForward::join() {
  Fd sending = TRY(duplicate(socket_, "the socket"));
  input_ = TRY(InputPipe::open(context_.loop, std::move(sending), InputPipe::Target::socket, [this] {
    client_.pause_input(false);
    if (output_ended_ && input_->is_idle()) answer();
  }));
  output_.emplace(context_.loop, client_, FrameType::stdout_bytes, std::move(socket_));
  return output_->open([this] { on_output_end(); });
}

void PortForward::on_output_end() {
  output_ended_ = true;
  input_->end();
  if (input_->is_idle()) return answer();
  limit_ = context_.loop.after(last_input_limit, [this] { answer(); });
}

void PortForward::answer() { client_.reply("{}"); }

}  // namespace

void port_forward(Context& context, const std::shared_ptr<Connection>& client, uint16_t port) {
  auto session = std::make_shared<PortForward>(context, *client, port);
  client->set_call(session);
  session->begin();
}

}  // namespace keelson
