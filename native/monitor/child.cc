// Messages from a child to the monitor, and the words for its steps.
#include "child.h"

#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

namespace keelson {

namespace {

constexpr const char* words[] = {
    "reset signals",
    "join the cgroup",
    "join the namespace",
    "make the process",
    "place the standard streams",
    "close descriptors",
    "start a session",
    "join a session keyring",
    "make the cgroup namespace",
    "set the hostname",
    "set oom_score_adj",
    "set the security label",
    "open the mount source",
    "set the mount options of",
    "cut mounts off from the host's",
    "mount the root filesystem",
    "make the mount target",
    "refuse to mount over procfs at",
    "mount",
    "make the device",
    "open the terminal",
    "send the terminal",
    "place the console",
    "make the working directory",
    "mask",
    "make read-only",
    "make the root filesystem read-only",
    "set the sysctl",
    "change to the new root",
    "leave the host's root",
    "set the propagation of the root",
    "set an rlimit",
    "open the container's /dev/null",
    "change to the working directory",
    "refuse a working directory outside the container",
    "set the groups",
    "set the user",
    "set the capabilities",
    "set no_new_privs",
    "load the seccomp filter",
    "execute",
    "map the owners of",
    "find in the image",
    "make the directory",
    "follow no link in the mount source",
    "check that a procfs is at",
    "keep writable",
};
static_assert(std::size(words) == static_cast<size_t>(Step::make_volume_writable) + 1);

// What execve says when the command itself is to blame.
bool blames_command(int error) {
  return error == ENOENT || error == EACCES || error == ENOEXEC || error == ENOTDIR || error == ELOOP ||
         error == ENAMETOOLONG || error == EISDIR || error == ETXTBSY || error == EINVAL || error == ELIBBAD;
}

}  // namespace

void Child::die(Step step, const char* object) const { die(step, object, errno); }

void Child::die(Step step, const char* object, int error) const {
  ChildMessage message = {};
  message.kind = ChildMessage::Kind::failed;
  message.step = step;
  message.error = error;
  snprintf(message.object, sizeof message.object, "%s", object);
  // write and not sendmsg: by now a seccomp filter may stand in the way of rarer calls.
  [[maybe_unused]] ssize_t sent = write(socket_, &message, sizeof message);
  _exit(1);
}

void Child::send_terminal(int master) const {
  ChildMessage message = {};
  message.kind = ChildMessage::Kind::terminal;
  iovec content = {&message, sizeof message};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr header = {};
  header.msg_iov = &content;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  cmsghdr* rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(rights), &master, sizeof master);
  if (sendmsg(socket_, &header, MSG_NOSIGNAL) < 0) die(Step::send_terminal);
}

void Child::ready() const {
  ChildMessage message = {};
  message.kind = ChildMessage::Kind::ready;
  if (write(socket_, &message, sizeof message) < 0) _exit(1);
}

Error to_error(const ChildMessage& message) {
  Error error;
  error.step = words[static_cast<size_t>(message.step)];
  if (message.object[0] != '\0') error.step += " " + std::string(message.object);
  error.error_number = message.error;
  if (message.step == Step::execute && blames_command(message.error)) error.kind = Kind::not_executable;
  if (message.step == Step::refuse_mount_over_proc || message.step == Step::refuse_directory_outside ||
      message.step == Step::find_in_image || message.step == Step::open_linked_source ||
      message.step == Step::check_proc) {
    error.kind = Kind::invalid;
  }
  return error;
}

}  // namespace keelson
