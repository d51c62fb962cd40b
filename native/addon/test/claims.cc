#include "addon/test/claims.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"

namespace keelson {

void claim(bool holds, const char* what, const char* file, int line) {
  if (holds) return;
  fprintf(stderr, "%s:%d: does not hold: %s (errno: %s)\n", file, line, what, strerror(errno));
  exit(1);
}

void write_file(const std::string& path, const std::string& content) {
  Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  CLAIM(fd && ::write(fd.get(), content.data(), content.size()) == static_cast<ssize_t>(content.size()));
}

void make_directory(const std::string& path) { CLAIM(::mkdir(path.c_str(), 0755) == 0); }
bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

int open_descriptors() {
  int count = 0;
  DIR* list = ::opendir("/proc/self/fd");
  while (::readdir(list) != nullptr) ++count;
  ::closedir(list);
  return count;
}

}  // namespace keelson
