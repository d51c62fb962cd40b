#include "addon/monitor_fork.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/descriptor_message.h"

namespace keelson {

Result<Fd> ask_for_fork(int socket, const std::string& pod_directory) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno("create its readiness pipe");
  Fd ours(ends[0]);
  const Fd theirs(ends[1]);
  if (send_with_descriptor(socket, pod_directory, theirs.get(), MSG_DONTWAIT) < 0) return fail_errno("send to the fork server");
  return ours;
}

}  // namespace keelson
