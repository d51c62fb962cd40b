// What a child leaves for the monitor, and the words for its steps. Source: signal(7).
#include "monitor/setup/child.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

namespace keelson {

namespace {

constexpr int max_errno = 4095;  // the kernel's MAX_ERRNO

constexpr const char* words[] = {
    "reset signals",
    "join the cgroup",
    "join the namespace",
    "spawn the process",
    "keep the monitor's memory from the process",
    "place the standard streams",
    "close descriptors",
    "start a session",
    "join a session keyring",
    "find the PID namespace's procfs in",
    "make the cgroup namespace",
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
    "change to the new root",
    "leave the host's root",
    "set the propagation of the root",
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
    "use the image's",
    "check that a procfs is at",
    "keep writable",
    "make the namespaces",
};
static_assert(std::size(words) == static_cast<size_t>(Step::last) + 1);

// What execve says when the command itself is to blame.
bool blames_command(int error) {
  return error == ENOENT || error == EACCES || error == ENOEXEC || error == ENOTDIR || error == ELOOP ||
         error == ENAMETOOLONG || error == EISDIR || error == ETXTBSY || error == EINVAL || error == ELIBBAD;
}

}  // namespace

void Child::die(Step step, const char* object) const { die(step, object, errno); }

void Child::die(Step step, const char* object, int error) const {
  report_.step = static_cast<uint32_t>(step);
  report_.error = error;
  snprintf(report_.object, sizeof report_.object, "%s", object);
  report_.state = Report::failed;
  _exit(1);
}

void Child::send(int descriptor) const {
  char nothing = 0;
  iovec content = {&nothing, sizeof nothing};
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
  memcpy(CMSG_DATA(rights), &descriptor, sizeof descriptor);
  if (sendmsg(socket_, &header, MSG_NOSIGNAL) < 0) die(Step::send_terminal);
}

void leave_monitor(const Child& child) {
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) child.die(Step::reset_signals);
  for (int number = 1; number < NSIG; ++number) {
    // SIGKILL, SIGSTOP and the two that libc keeps for itself refuse, and need it not.
    signal(number, SIG_DFL);
  }
  sigset_t none;
  sigemptyset(&none);
  if (sigprocmask(SIG_SETMASK, &none, nullptr) != 0) child.die(Step::reset_signals);
}

Fd receive_descriptor(int socket, ssize_t& size) {
  char content[256];  // runc says a name with it
  iovec part = {content, sizeof content};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = CMSG_LEN(sizeof(int));  // a second descriptor finds no room: the kernel closes it
  do size = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  while (size < 0 && errno == EINTR);
  const cmsghdr* header = size < 0 ? nullptr : CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) return Fd();
  int received = -1;
  memcpy(&received, CMSG_DATA(header), sizeof received);
  Fd sent(received);
  return (message.msg_flags & MSG_CTRUNC) == 0 ? std::move(sent) : Fd();
}

bool is_settled(const volatile Report& report) { return report.state == Report::settled; }

std::optional<Error> failure_in(const volatile Report& report) {
  if (report.state != Report::failed) return std::nullopt;
  const uint32_t number = report.step;
  const int error_number = report.error;
  Error error;
  if (number > static_cast<uint32_t>(Step::last) || error_number < 0 || error_number > max_errno) {
    error.step = "start the process";
    error.detail = "what it reports is nothing that it can have met with";
    return error;
  }
  const Step step = static_cast<Step>(number);
  std::string object;
  for (size_t at = 0; at < sizeof report.object; ++at) {
    const char character = report.object[at];
    if (character == '\0') break;
    object += character;
  }
  error.step = words[number];
  if (!object.empty()) error.step += " " + object;
  error.error_number = error_number;
  if (step == Step::execute && blames_command(error_number)) error.kind = Kind::not_executable;
  if (step == Step::use_image_directory && (error_number == ELOOP || error_number == ENOTDIR)) {
    error.error_number = 0;
    error.detail = error_number == ELOOP ? "it is a symbolic link, and not a directory" : "it is not a directory";
    error.kind = Kind::invalid;
  }
  if (step == Step::refuse_mount_over_proc || step == Step::refuse_directory_outside || step == Step::find_in_image ||
      step == Step::open_linked_source || step == Step::check_proc || step == Step::find_procfs) {
    error.kind = Kind::invalid;
  }
  return error;
}

}  // namespace keelson
