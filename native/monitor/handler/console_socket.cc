#include "monitor/handler/console_socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>

namespace keelson {

ConsoleSocket::~ConsoleSocket() {
  if (listener_) unlinkat(directory_.get(), name_.c_str(), 0);
}

Result<ConsoleSocket> ConsoleSocket::listen(const std::string& directory, const std::string& name) {
  ConsoleSocket made;
  made.directory_ = Fd(open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!made.directory_) return fail_errno("open " + directory);
  made.name_ = name;
  // A bundle's path is longer than a socket address; through our descriptor of the directory it is short.
  made.path_ = "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(made.directory_.get()) + "/" + name;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (made.path_.size() >= sizeof address.sun_path) return fail_errno("make the console socket", ENAMETOOLONG);
  memcpy(address.sun_path, made.path_.c_str(), made.path_.size());
  if (unlinkat(made.directory_.get(), name.c_str(), 0) != 0 && errno != ENOENT) {
    return fail_errno("remove an old console socket");
  }
  Fd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener) return fail_errno("make the console socket");
  if (bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    return fail_errno("bind the console socket");
  }
  made.listener_ = std::move(listener);
  if (::listen(made.listener_.get(), 1) != 0) return fail_errno("listen on the console socket");
  return made;
}

Result<Fd> ConsoleSocket::receive() const {
  Fd peer(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!peer) return fail_errno("accept on the console socket");
  char name[256];
  iovec part{name, sizeof name};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (recvmsg(peer.get(), &message, MSG_CMSG_CLOEXEC) < 0) return fail_errno("receive the terminal");
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS ||
      header->cmsg_len != CMSG_LEN(sizeof(int))) {
    return fail(Kind::system, "receive the terminal", "the runtime sent no descriptor");
  }
  int received = -1;
  memcpy(&received, CMSG_DATA(header), sizeof received);
  Fd terminal(received);
  if (fcntl(terminal.get(), F_SETFL, fcntl(terminal.get(), F_GETFL) | O_NONBLOCK) != 0) {
    return fail_errno("make the terminal non-blocking");
  }
  return terminal;
}

}  // namespace keelson
