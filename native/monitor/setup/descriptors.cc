// Standard streams and the closing of everything else, in the child.
#include "monitor/setup/descriptors.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

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
    struct stat status;
    if (fstat(null, &status) != 0) child.die(Step::open_null);
    if (!S_ISCHR(status.st_mode) || status.st_rdev != makedev(1, 3)) child.die(Step::open_null, "", ENODEV);
    if (dup3(null, number, 0) < 0) child.die(Step::open_null);
    close(null);
  }
}

}  // namespace keelson
