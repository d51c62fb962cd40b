#include "monitor/server/server.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>

#include "common/file.h"
#include "monitor/server/monitor_log.h"

namespace keelson {

namespace {

using namespace std::chrono_literals;

constexpr const char* socket_name = "monitor.sock";
// Empty files that tell a client which features this monitor has. A monitor outlives the daemon that started it, so
// their versions may differ.
constexpr const char* keeps_connections_name = "keeps-connections";
constexpr const char* finds_home_name = "finds-home";

bool is_root(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == 0;
}

}  // namespace

Result<Fd> listen_at(const Fd& directory, const std::string& name, int backlog) {
  // A socket address holds 108 bytes; through /proc any directory fits.
  const std::string path = "/proc/self/fd/" + std::to_string(directory.get()) + "/" + name;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return fail_errno("bind " + name, ENAMETOOLONG);
  memcpy(address.sun_path, path.c_str(), path.size());
  if (unlinkat(directory.get(), name.c_str(), 0) != 0 && errno != ENOENT) return fail_errno("remove the old " + name);
  Fd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener) return fail_errno("create a socket");
  mode_t old_umask = umask(0177);  // the socket must not be accessible to others even briefly
  int bound = bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
  int bind_error = errno;
  umask(old_umask);
  if (bound != 0) return fail_errno("bind " + name, bind_error);
  if (listen(listener.get(), backlog) != 0) return fail_errno("listen on " + name);
  return listener;
}

namespace {

void remove_if_there(const std::string& directory, const char* name) {
  const std::string path = directory + "/" + name;
  if (unlink(path.c_str()) != 0 && errno != ENOENT) warn("remove " + path + ": " + strerror(errno));
}

Status make_empty_file(const Fd& directory, const char* name) {
  Fd file(openat(directory.get(), name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  return file ? Status{} : fail_errno(std::string("create ") + name);
}

}  // namespace

Status Server::listen(const std::string& directory, Connection::RequestHandler on_request) {
  directory_ = directory;
  on_request_ = std::move(on_request);
  const Fd opened = TRY(open_file(directory, O_PATH | O_DIRECTORY));
  for (const char* name : {keeps_connections_name, finds_home_name}) TRY(make_empty_file(opened, name));
  listener_ = TRY(listen_at(opened, socket_name, max_waiting));
  watch_ = TRY(loop_.watch(listener_.get(), EPOLLIN, [this](uint32_t) { on_connect(); }));
  return {};
}

void Server::stop_listening() {
  watch_.stop();
  pause_.cancel();
  listener_.reset();
  for (const char* name : {socket_name, keeps_connections_name, finds_home_name}) remove_if_there(directory_, name);
}

void Server::on_connect() {
  Fd accepted(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (accepted) return admit(std::move(accepted));
  if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return;
  // Out of descriptors or memory: the client stays in the queue, and epoll would report it again immediately.
  warn(std::string("accept a connection: ") + strerror(errno));
  watch_.want(0);
  pause_ = loop_.after(100ms, [this] { accept_or_wait(); });
}

void Server::admit(Fd socket) {
  if (!is_root(socket.get())) return warn("refused a connection from a peer whose uid is not 0");
  if (is_full()) return refuse(std::move(socket));
  uint64_t id = next_id_++;
  auto connection = std::make_shared<Connection>(
      loop_, std::move(socket), id, on_request_, [this](uint64_t gone) {
        auto found = connections_.find(gone);
        if (found == connections_.end()) return;
        // The caller may be a method of this connection.
        loop_.defer([last = std::move(found->second)] {});
        connections_.erase(found);
        accept_or_wait();
      });
  connections_.emplace(id, connection);
  accept_or_wait();
  if (Status opened = connection->open(); !opened) {
    warn(opened.error().message());
    connection->close();
  }
}

// The client sends its request without waiting. If the socket were closed immediately, that send would fail before the
// client reads the error.
void Server::refuse(Fd socket) {
  const Error full{Kind::busy, "accept the connection", {}, 0,
                   std::to_string(max_connections) + " connections are already open"};
  const std::string frame = whole_frame(FrameType::error, error_json(full));
  // It fits into an empty socket buffer, so it fails only if the peer is gone.
  ::send(socket.get(), frame.data(), frame.size(), MSG_NOSIGNAL);
  shutdown(socket.get(), SHUT_WR);
  uint64_t id = next_id_++;
  auto watch = loop_.watch(socket.get(), EPOLLRDHUP, [this, id](uint32_t) { forget_refused(id); });
  if (!watch) return;
  Loop::Timer end = loop_.after(1s, [this, id] { forget_refused(id); });
  refused_.emplace(id, Refused{std::move(socket), std::move(*watch), std::move(end)});
  accept_or_wait();
}

void Server::forget_refused(uint64_t id) {
  refused_.erase(id);
  accept_or_wait();
}

// Connections whose last frame has been sent do not count.
bool Server::is_full() const {
  if (connections_.size() < max_connections) return false;
  auto is_open = [](const auto& entry) { return entry.second->open_for_frames(); };
  return std::ranges::count_if(connections_, is_open) >= static_cast<std::ptrdiff_t>(max_connections);
}

void Server::accept_or_wait() {
  const bool is_crowded = refused_.size() >= max_refused || connections_.size() >= max_connections + max_over;
  watch_.want(is_crowded ? 0u : EPOLLIN);
}

}  // namespace keelson
