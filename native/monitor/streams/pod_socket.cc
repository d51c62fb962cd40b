// A connection to a port inside the pod's network namespace.
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>

#include "monitor/setup/process.h"

namespace keelson {

namespace {

// A socket belongs to the namespace it was made in, wherever its owner goes then.
Result<Fd> socket_in_pod(const Sandbox& sandbox, int family) {
  constexpr int type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
  if (!sandbox.net_ns) {
    Fd plain(socket(family, type, 0));
    if (!plain) return fail_errno("make a socket");
    return plain;
  }
  Fd home(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!home) return fail_errno("open the monitor's own network namespace");
  if (setns(sandbox.net_ns.get(), CLONE_NEWNET) != 0) return fail_errno("enter the pod's network namespace");
  Fd inside(socket(family, type, 0));
  const int error = errno;
  if (setns(home.get(), CLONE_NEWNET) != 0) return fail_errno("go back to the host's network namespace");
  if (!inside) return fail_errno("make a socket in the pod's network namespace", error);
  return inside;
}

}  // namespace

Result<PortConnection> connect_in_pod(const Sandbox& sandbox, uint16_t port, bool ipv6) {
  Result<Fd> made = socket_in_pod(sandbox, ipv6 ? AF_INET6 : AF_INET);
  if (!made) return about(made.error(), "pod " + sandbox.spec.id);
  PortConnection connection;
  connection.socket = std::move(*made);

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
  if (connect(connection.socket.get(), address, size) != 0) {
    if (errno != EINPROGRESS) {
      return about(fail_errno("connect to port " + std::to_string(port)).error(), "pod " + sandbox.spec.id);
    }
    connection.connecting = true;
  }
  return connection;
}

}  // namespace keelson
