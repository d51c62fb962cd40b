// Sources: clone(2), unix(7), proc_pid_cmdline(5).
#include "monitor/fork_server.h"

#include <limits.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace keelson {

namespace {

// None, with errno 0, when the other end is closed. A message without a descriptor is none of the daemon's.
Result<ForkRequest> receive(int socket) {
  char path[PATH_MAX];
  iovec part = {path, sizeof path};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t size = 0;
  do size = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  while (size < 0 && errno == EINTR);
  if (size < 0) return fail_errno("receive a request");
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (size == 0 || header == nullptr || header->cmsg_type != SCM_RIGHTS) return fail_errno("receive a request", 0);
  int descriptor = -1;
  memcpy(&descriptor, CMSG_DATA(header), sizeof descriptor);
  return ForkRequest{std::string(path, static_cast<size_t>(size)), Fd(descriptor)};
}

// The words of a command line lie one behind the other, and what is there is what others see of it. All pod directories are of
// one length, and the server was started with words as long.
Status rename_command(std::span<char*> words, const std::string& pod_dir) {
  char* const begin = words[1];
  char* const end = words.back() + strlen(words.back()) + 1;
  const std::string renamed = std::string("run") + '\0' + pod_dir + '\0';
  if (renamed.size() > static_cast<size_t>(end - begin)) {
    return fail(Kind::invalid, "name the process", "the server was started with too little room for " + pod_dir);
  }
  memset(begin, 0, static_cast<size_t>(end - begin));
  memcpy(begin, renamed.data(), renamed.size());
  return {};
}

}  // namespace

int serve_forks(Fd socket, std::span<char*> words, const RunForked& run, const ForkFailed& failed) {
  for (;;) {
    Result<ForkRequest> request = receive(socket.get());
    if (!request) return request.error().error_number == 0 ? 0 : 1;
    const long pid = syscall(SYS_clone, static_cast<unsigned long>(CLONE_PARENT), nullptr, nullptr, nullptr, nullptr);
    if (pid < 0) failed(std::move(*request), fail_errno("fork a monitor").error());
    if (pid != 0) continue;
    socket.reset();
    if (Status renamed = rename_command(words, request->pod_dir); !renamed) {
      failed(std::move(*request), renamed.error());
      return 1;
    }
    return run(std::move(*request));
  }
}

}  // namespace keelson
