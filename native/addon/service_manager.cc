#include "addon/service_manager.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <cstddef>
#include <cstring>

#include "common/fd.h"

namespace keelson {

namespace {

constexpr size_t path_offset = offsetof(sockaddr_un, sun_path);

Result<int> option_of(int descriptor, int option) {
  int value = 0;
  socklen_t length = sizeof value;
  if (::getsockopt(descriptor, SOL_SOCKET, option, &value, &length) == 0) return value;
  return fail_errno("inspect the inherited socket");
}

}  // namespace

Status notify_manager(const std::string& path, const std::string& lines) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() < 2 || path.size() > sizeof address.sun_path) {
    return fail(Kind::invalid, "notify systemd", "NOTIFY_SOCKET is not a valid unix socket address");
  }
  memcpy(address.sun_path, path.data(), path.size());
  if (path[0] == '@') address.sun_path[0] = '\0';
  Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return fail_errno("create a socket to notify systemd");
  // A manager that does not read must not block the thread.
  const timeval limit{.tv_sec = 1, .tv_usec = 0};
  if (::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) != 0) {
    return fail_errno("set a timeout for notifying systemd");
  }
  const auto length = static_cast<socklen_t>(path_offset + path.size());
  const auto* to = reinterpret_cast<const sockaddr*>(&address);
  if (::sendto(socket.get(), lines.data(), lines.size(), MSG_NOSIGNAL, to, length) >= 0) return {};
  return fail_errno("notify systemd");
}

Result<std::string> adopt_listener(int descriptor) {
  const auto wrong = [] {
    return fail(Kind::invalid, "adopt the inherited socket", "it is not a unix stream socket that listens on a path");
  };
  if (TRY(option_of(descriptor, SO_DOMAIN)) != AF_UNIX || TRY(option_of(descriptor, SO_TYPE)) != SOCK_STREAM ||
      TRY(option_of(descriptor, SO_ACCEPTCONN)) == 0) {
    return wrong();
  }
  sockaddr_un address{};
  socklen_t length = sizeof address;
  if (::getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    return fail_errno("get the inherited socket's address");
  }
  if (length <= path_offset || address.sun_path[0] != '/') return wrong();
  if (::fcntl(descriptor, F_SETFD, FD_CLOEXEC) != 0) return fail_errno("make the inherited socket close-on-exec");
  return std::string(address.sun_path, strnlen(address.sun_path, length - path_offset));
}

}  // namespace keelson
