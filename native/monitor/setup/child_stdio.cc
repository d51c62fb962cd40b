// Sources: pts(4), ioctl_tty(2), runtime-spec config.md (terminal).
//
// The slave is opened through its master (TIOCGPTPEER), not by a path that somebody
// in the container could turn elsewhere (CVE-2025-52565).
#include "monitor/setup/child_stdio.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "monitor/setup/filesystem.h"

namespace keelson {

namespace {

void close_between(const Child& child, int first, int last) {
  if (first > last) return;
  if (syscall(SYS_close_range, first, last, 0) != 0) child.die(Step::close_descriptors);
}

}  // namespace

void place_stdio(const Child& child, const Stdio& stdio, uid_t uid) {
  const int streams[] = {stdio.in.get(), stdio.out.get(), stdio.err.get()};
  // Moved up first: one of them may be where another is to go.
  int moved[3];
  for (int number = 0; number < 3; ++number) {
    moved[number] = streams[number] < 0 ? -1 : fcntl(streams[number], F_DUPFD_CLOEXEC, 3);
    if (streams[number] >= 0 && moved[number] < 0) child.die(Step::place_stdio);
  }
  for (int number = 0; number < 3; ++number) {
    if (moved[number] < 0) {
      // Something must hold the number, or the next open would take it.
      if (dup3(child.socket(), number, O_CLOEXEC) < 0) child.die(Step::place_stdio);
      continue;
    }
    if (dup3(moved[number], number, 0) < 0) child.die(Step::place_stdio);
    close(moved[number]);
    struct stat status;
    if (uid != 0 && fstat(number, &status) == 0 && S_ISFIFO(status.st_mode)) {
      // Not every pipe may be given away (one of a user namespace); it is only a convenience.
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
  if (syscall(SYS_close_range, 3, UINT32_MAX, CLOSE_RANGE_CLOEXEC) == 0) return;
  // Linux 5.10 has close_range without that flag.
  if (errno != EINVAL) child.die(Step::close_descriptors);
  close_descriptors(child);
}

void open_missing_streams(const Child& child, const Stdio& stdio) {
  const int streams[] = {stdio.in.get(), stdio.out.get(), stdio.err.get()};
  for (int number = 0; number < 3; ++number) {
    if (streams[number] >= 0) continue;
    int null = open("/dev/null", O_RDWR | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC);
    if (null < 0) child.die(Step::open_null);
    if (!is_null_device(null)) child.die(Step::open_null, "", ENODEV);
    if (dup3(null, number, 0) < 0) child.die(Step::open_null);
    close(null);
  }
}

int open_terminal(const Child& child, int root, const CommandSpec& command, uid_t uid) {
  int master = open_in_root(root, "/dev/pts/ptmx", O_RDWR | O_NOCTTY);
  if (master < 0) child.die(Step::open_terminal, "/dev/pts/ptmx");
  if (!is_on(master, DEVPTS_SUPER_MAGIC)) child.die(Step::open_terminal, "/dev/pts/ptmx", ENODEV);

  int unlocked = 0;
  if (ioctl(master, TIOCSPTLCK, &unlocked) != 0) child.die(Step::open_terminal);
  int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (slave < 0) child.die(Step::open_terminal);
  if (fchown(slave, uid, static_cast<gid_t>(-1)) != 0) child.die(Step::open_terminal);
  if (command.columns != 0 || command.rows != 0) {
    winsize size = {command.rows, command.columns, 0, 0};
    if (ioctl(master, TIOCSWINSZ, &size) != 0) child.die(Step::open_terminal);
  }
  child.send(master);
  close(master);
  return slave;
}

void place_console(const Child& child, int root, int slave) {
  int dev = open_in_root(root, "/dev", O_PATH | O_DIRECTORY);
  if (dev < 0) child.die(Step::place_console);
  int file = openat(dev, "console", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (file >= 0) close(file);
  else if (errno != EEXIST) child.die(Step::place_console);
  int target = open_in_root(dev, "console", O_PATH, RESOLVE_NO_SYMLINKS);
  int tree = clone_tree(slave, "", false);
  if (target < 0 || tree < 0 || attach_mount(tree, target) != 0) child.die(Step::place_console);
  close(tree);
  close(target);
  close(dev);
}

void make_controlling(const Child& child) {
  if (ioctl(0, TIOCSCTTY, 0) != 0) child.die(Step::open_terminal);
}

void place_terminal(const Child& child, int slave) {
  for (int number = 0; number < 3; ++number) {
    if (dup3(slave, number, 0) < 0) child.die(Step::place_stdio);
  }
  close(slave);
}

}  // namespace keelson
