// Sources: signal(7), pts(4), ioctl_tty(2), runtime-spec config.md (terminal).
#include "monitor/setup/child.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "common/descriptor_message.h"
#include "monitor/setup/filesystem.h"

namespace keelson {

namespace {

constexpr int max_errno = 4095;  // the kernel's MAX_ERRNO

constexpr const char* step_names[] = {
#define KEELSON_WORDS(name, words) words,
    KEELSON_STEPS(KEELSON_WORDS)
#undef KEELSON_WORDS
};

// The errors of execve that are caused by the command itself.
bool blames_command(int error) {
  return error == ENOENT || error == EACCES || error == ENOEXEC || error == ENOTDIR || error == ELOOP ||
         error == ENAMETOOLONG || error == EISDIR || error == ETXTBSY || error == EINVAL || error == ELIBBAD;
}

// Whether a path of the request failed because of what the image or a volume has there.
bool blames_path(Step step, int error) {
  const bool takes_path = step == Step::make_mount_target || step == Step::make_device ||
                          step == Step::make_working_directory || step == Step::change_directory;
  return takes_path && (error == ENOENT || error == ENOTDIR || error == EEXIST || error == EACCES || error == ELOOP ||
                        error == ENAMETOOLONG || error == EROFS);
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
  check(send_with_descriptor(socket_, {"", 1}, descriptor, 0), Step::send_terminal);
}

namespace {

// The daemon, and with it the monitor, may be bound to CPUs reserved for the system (systemd's CPUAffinity=).
// Containers must not inherit that, and since Linux 6.2 a cpuset does not override it.
void leave_processors_to_cpuset(const Child& child) {
  constexpr size_t most_processors = 8192;  // the largest NR_CPUS of any architecture; nonexistent CPUs are ignored
  unsigned long all[most_processors / (8 * sizeof(unsigned long))];
  memset(all, 0xff, sizeof all);
  child.check(syscall(SYS_sched_setaffinity, 0, sizeof all, all), Step::set_affinity);
}

}  // namespace

void leave_monitor(const Child& child) {
  child.check(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), Step::reset_signals);
  // The monitor ignores only these and has no handlers (main.cc).
  signal(SIGPIPE, SIG_DFL);
  signal(SIGXFSZ, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  child.check(sigprocmask(SIG_SETMASK, &none, nullptr), Step::reset_signals);
  leave_processors_to_cpuset(child);
}

Fd receive_descriptor(int socket, ssize_t& size) {
  char content[256];  // runc sends a name with it
  return receive_with_descriptor(socket, content, size, MSG_DONTWAIT);
}

bool is_settled(const volatile Report& report) { return report.state == Report::settled; }

std::optional<Error> failure_in(const volatile Report& report) {
  if (report.state != Report::failed) return std::nullopt;
  const uint32_t number = report.step;
  const int error_number = report.error;
  Error error;
  if (number >= static_cast<uint32_t>(Step::count) || error_number < 0 || error_number > max_errno) {
    error.step = "start the process";
    error.detail = "the process's failure report is invalid";
    return error;
  }
  const Step step = static_cast<Step>(number);
  std::string object;
  for (size_t at = 0; at < sizeof report.object; ++at) {
    const char character = report.object[at];
    if (character == '\0') break;
    object += character;
  }
  error.step = step_names[number];
  if (!object.empty()) error.step += " " + object;
  error.error_number = error_number;
  if (step == Step::execute && blames_command(error_number)) error.kind = Kind::not_executable;
  if (step == Step::execute && error_number == E2BIG) error.kind = Kind::invalid;
  if (step == Step::execute && error_number == EPERM) {
    error.detail = "the file has capabilities that the container may not have, or its seccomp profile refuses execve";
    error.kind = Kind::invalid;
  }
  if (blames_path(step, error_number)) error.kind = Kind::invalid;
  if (step == Step::use_image_directory && (error_number == ELOOP || error_number == ENOTDIR)) {
    error.error_number = 0;
    error.detail = error_number == ELOOP ? "it is a symbolic link, not a directory" : "it is not a directory";
    error.kind = Kind::invalid;
  }
  if (step == Step::set_groups && error_number == EINVAL) {
    error.error_number = 0;
    error.detail =
        "a process may have at most 65536 groups, and the pod's user namespace must map each of them";
    error.kind = Kind::invalid;
  }
  if (step == Step::map_owners && error_number == EINVAL) {
    error.error_number = 0;
    error.detail = "its file system has no idmapped mounts on this kernel, which a pod with a user namespace needs";
    error.kind = Kind::invalid;
  }
  if (step == Step::mount && (error_number == ENOTDIR || error_number == EISDIR)) {
    error.error_number = 0;
    error.detail = error_number == ENOTDIR ? "its source is a directory, but its target is not"
                                           : "its source is not a directory, but its target is";
    error.kind = Kind::invalid;
  }
  if (step == Step::refuse_mount_over_root) {
    error.error_number = 0;
    error.detail = "a link in the image points from there to its root";
    error.kind = Kind::invalid;
  }
  if (step == Step::refuse_mount_over_proc || step == Step::refuse_directory_outside || step == Step::find_in_image ||
      step == Step::open_linked_source || step == Step::check_proc || step == Step::find_procfs) {
    error.kind = Kind::invalid;
  }
  return error;
}

namespace {

void close_between(const Child& child, int first, int last) {
  if (first > last) return;
  child.check(close_range(static_cast<unsigned>(first), static_cast<unsigned>(last), 0), Step::close_descriptors);
}

}  // namespace

void place_stdio(const Child& child, const Stdio& stdio, uid_t uid) {
  const int streams[] = {stdio.in.get(), stdio.out.get(), stdio.err.get()};
  // Move them up first: one may occupy the number that another needs.
  Fd moved[3];
  for (int number = 0; number < 3; ++number) {
    if (streams[number] < 0) continue;
    moved[number] = child.check(Fd(fcntl(streams[number], F_DUPFD_CLOEXEC, 3)), Step::place_stdio);
  }
  for (int number = 0; number < 3; ++number) {
    if (!moved[number]) {
      // Occupy the number, or the next open would take it.
      child.check(dup3(child.socket(), number, O_CLOEXEC), Step::place_stdio);
      continue;
    }
    child.check(dup3(moved[number].get(), number, 0), Step::place_stdio);
    struct stat status;
    if (uid != 0 && fstat(number, &status) == 0 && S_ISFIFO(status.st_mode)) {
      // Not every pipe can be chowned (one of a user namespace); this is only a convenience.
      [[maybe_unused]] int ignored = fchown(number, uid, static_cast<gid_t>(-1));
    }
  }
}

void close_descriptors(const Child& child, std::span<const int> kept) {
  int next = 3;
  auto spare = [&](int fd) {
    if (fd < next) return;
    close_between(child, next, fd - 1);
    next = fd + 1;
  };
  bool socket_spared = false;
  for (int fd : kept) {
    if (!socket_spared && fd > child.socket()) {
      spare(child.socket());
      socket_spared = true;
    }
    spare(fd);
  }
  if (!socket_spared) spare(child.socket());
  close_between(child, next, INT32_MAX);
}

void close_all(const Child& child) { close_between(child, 3, INT32_MAX); }

void close_on_exec(const Child& child) {
  child.check(close_range(3, ~0U, CLOSE_RANGE_CLOEXEC), Step::close_descriptors);
}

Fd open_own_null() {
  Fd null(open("/dev/null", O_RDWR | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC));
  if (!null || is_null_device(null.get())) return null;
  errno = ENODEV;
  return Fd();
}

void open_missing_streams(const Child& child, const Stdio& stdio) {
  const int streams[] = {stdio.in.get(), stdio.out.get(), stdio.err.get()};
  for (int number = 0; number < 3; ++number) {
    if (streams[number] >= 0) continue;
    const Fd null = child.check(open_own_null(), Step::open_null);
    child.check(dup3(null.get(), number, 0), Step::open_null);
  }
}

// The slave is opened through its master (TIOCGPTPEER), not by a path that a process in the container could redirect
// (CVE-2025-52565).
Fd open_terminal(const Child& child, int root, const CommandSpec& command, uid_t uid) {
  constexpr const char* path = "/dev/pts/ptmx";
  // Non-blocking for the monitor; the slave is a separate open file and stays blocking.
  const Fd master = child.check(open_in_root(root, path, O_RDWR | O_NOCTTY | O_NONBLOCK), Step::open_terminal, path);
  if (!is_on(master.get(), DEVPTS_SUPER_MAGIC)) child.die(Step::open_terminal, path, ENODEV);

  int unlocked = 0;
  child.check(ioctl(master.get(), TIOCSPTLCK, &unlocked), Step::open_terminal);
  Fd slave = child.check(Fd(ioctl(master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC)), Step::open_terminal);
  child.check(fchown(slave.get(), uid, static_cast<gid_t>(-1)), Step::open_terminal);
  if (command.columns != 0 || command.rows != 0) {
    const winsize size = {command.rows, command.columns, 0, 0};
    child.check(ioctl(master.get(), TIOCSWINSZ, &size), Step::open_terminal);
  }
  child.send(master.get());
  return slave;
}

void place_console(const Child& child, int root, int slave) {
  const Fd dev = child.check(open_in_root(root, "/dev", O_PATH | O_DIRECTORY), Step::place_console);
  const Fd made(openat(dev.get(), "console", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!made && errno != EEXIST) child.die(Step::place_console);
  const Fd target = child.check(open_in_root(dev.get(), "console", O_PATH, RESOLVE_NO_SYMLINKS), Step::place_console);
  const Fd tree = child.check(clone_tree(slave, "", false), Step::place_console);
  child.check(attach_mount(tree.get(), target.get()), Step::place_console);
}

void make_controlling(const Child& child) { child.check(ioctl(0, TIOCSCTTY, 0), Step::open_terminal); }

void place_terminal(const Child& child, Fd slave) {
  for (int number = 0; number < 3; ++number) child.check(dup3(slave.get(), number, 0), Step::place_stdio);
}

}  // namespace keelson
