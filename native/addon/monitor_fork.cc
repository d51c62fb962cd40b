#include "addon/monitor_fork.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

namespace keelson {

Result<Fd> ask_for_fork(int socket, const std::string& pod_directory) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno("make the pipe of its readiness");
  Fd ours(ends[0]);
  const Fd theirs(ends[1]);

  iovec content = {const_cast<char*>(pod_directory.data()), pod_directory.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &content;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* rights = CMSG_FIRSTHDR(&message);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof(int));
  const int descriptor = theirs.get();
  memcpy(CMSG_DATA(rights), &descriptor, sizeof descriptor);
  if (::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) return fail_errno("ask for a monitor");
  return ours;
}

}  // namespace keelson
