// Ptys. Sources: pts(4), ioctl_tty(2), runtime-spec config.md (terminal).
//
// The slave is opened through its master (TIOCGPTPEER), not by a path that somebody
// in the container could turn elsewhere (CVE-2025-52565).
#include "monitor/setup/terminal.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <termios.h>
#include <unistd.h>

#include "monitor/setup/mount_api.h"
#include "monitor/setup/resolve.h"

namespace keelson {

int open_terminal(const Child& child, int root, const ProcessSpec& process) {
  int master = open_in_root(root, "/dev/pts/ptmx", O_RDWR | O_NOCTTY);
  if (master < 0) child.die(Step::open_terminal, "/dev/pts/ptmx");
  struct statfs status;
  if (fstatfs(master, &status) != 0) child.die(Step::open_terminal);
  if (status.f_type != DEVPTS_SUPER_MAGIC) child.die(Step::open_terminal, "/dev/pts/ptmx", ENODEV);

  int unlocked = 0;
  if (ioctl(master, TIOCSPTLCK, &unlocked) != 0) child.die(Step::open_terminal);
  int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (slave < 0) child.die(Step::open_terminal);
  if (fchown(slave, process.uid, static_cast<gid_t>(-1)) != 0) child.die(Step::open_terminal);
  if (process.columns != 0 || process.rows != 0) {
    winsize size = {process.rows, process.columns, 0, 0};
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
