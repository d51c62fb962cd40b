#include "monitor/server/monitor_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "monitor/server/clock.h"

namespace keelson {

namespace {

constexpr off_t max_size = 64 << 10;
constexpr size_t max_sentence = 4 << 10;

}  // namespace

Status open_complaints(const char* path) {
  Fd file(open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file) return fail_errno(std::string("open ") + path);
  if (dup3(file.get(), STDERR_FILENO, O_CLOEXEC) < 0) return fail_errno("make monitor.log the stderr");
  return {};
}

void complain(std::string_view sentence) {
  struct stat info{};
  std::string line = rfc3339_utc(now_ns());
  line += ' ';
  line += sentence.substr(0, max_sentence);
  line += '\n';
  // Truncating is safe while the file is opened for appending: the next write goes to its new end.
  bool is_full = fstat(STDERR_FILENO, &info) == 0 && S_ISREG(info.st_mode) &&
                 info.st_size + static_cast<off_t>(line.size()) > max_size;
  if (is_full && ftruncate(STDERR_FILENO, 0) != 0) return;
  if (write(STDERR_FILENO, line.data(), line.size()) < 0) return;  // nobody is left to tell
}

}  // namespace keelson
