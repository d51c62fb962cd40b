// Notifications to the service manager, and which of its sockets are adopted.

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstddef>
#include <string>

#include "addon/service_manager.h"
#include "addon/test/claims.h"
#include "common/fd.h"

namespace keelson {

namespace {

void a_manager_is_notified(const std::string& base) {
  for (const std::string& path : {base + "/notify", std::string("@keelson-addon-test")}) {
    Fd manager(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, path.data(), path.size());
    if (path[0] == '@') address.sun_path[0] = '\0';
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
    CLAIM(::bind(manager.get(), reinterpret_cast<sockaddr*>(&address), length) == 0);
    CLAIM_OK(notify_manager(path, "READY=1\nSTATUS=up"));
    char received[64] = {};
    CLAIM(::recv(manager.get(), received, sizeof received, 0) == 17);
    CLAIM(std::string(received) == "READY=1\nSTATUS=up");
    CLAIM(!adopt_listener(manager.get()));
  }
  CLAIM(!notify_manager(base + "/nobody", "READY=1"));
  CLAIM(notify_manager(base + std::string(200, 'x'), "READY=1").error().kind == Kind::invalid);
}

void only_listeners_are_adopted(const std::string& base) {
  const std::string path = base + "/listens";
  Fd listener(::socket(AF_UNIX, SOCK_STREAM, 0));
  CLAIM(adopt_listener(listener.get()).error().kind == Kind::invalid);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path.data(), path.size());
  CLAIM(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  CLAIM(::listen(listener.get(), 1) == 0);
  const Result<std::string> adopted = adopt_listener(listener.get());
  CLAIM(adopted && *adopted == path);
  CLAIM((::fcntl(listener.get(), F_GETFD) & FD_CLOEXEC) != 0);
  Fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  CLAIM(!adopt_listener(null.get()));
}

}  // namespace

void test_service_manager(const std::string& base) {
  a_manager_is_notified(base);
  only_listeners_are_adopted(base);
}

}  // namespace keelson
