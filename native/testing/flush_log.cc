// For tests: a library for LD_PRELOAD that logs the path of each file and directory that the program flushes to disk, in
// the file that FLUSH_LOG names.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>

namespace {

void note(int fd) {
  char link[32], line[PATH_MAX + 1];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t size = readlink(link, line, PATH_MAX);
  const char* path = getenv("FLUSH_LOG");
  const int log = size < 0 || path == nullptr ? -1 : open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (log < 0) abort();
  line[size] = '\n';
  if (write(log, line, static_cast<size_t>(size) + 1) != size + 1) abort();
  close(log);
}

}  // namespace

extern "C" int fsync(int fd) {
  note(fd);
  return static_cast<int>(syscall(SYS_fsync, fd));
}

extern "C" int fdatasync(int fd) {
  note(fd);
  return static_cast<int>(syscall(SYS_fdatasync, fd));
}
