#include "monitor/server/monitor_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <ctime>

#include "common/file.h"

namespace keelson {

namespace {

constexpr off_t max_size = 64 << 10;
constexpr size_t max_sentence = 4 << 10;

}  // namespace

Status open_monitor_log(const char* path) {
  const Fd file = TRY(open_file(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600));
  if (dup3(file.get(), STDERR_FILENO, O_CLOEXEC) < 0) return fail_errno("redirect stderr to monitor.log");
  return {};
}

void warn(std::string_view sentence) {
  struct stat info{};
  std::string line = rfc3339_utc(now_ns());
  line += ' ';
  line += sentence.substr(0, max_sentence);
  line += '\n';
  // Truncating is safe because the file is open for appending: the next write goes to its new end.
  bool is_full = fstat(STDERR_FILENO, &info) == 0 && S_ISREG(info.st_mode) &&
                 info.st_size + static_cast<off_t>(line.size()) > max_size;
  if (is_full && ftruncate(STDERR_FILENO, 0) != 0) return;
  if (write(STDERR_FILENO, line.data(), line.size()) < 0) return;  // there is nowhere left to report it
}

int64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

std::string rfc3339_utc(int64_t ns) {
  time_t seconds = ns / 1'000'000'000;
  tm parts{};
  gmtime_r(&seconds, &parts);
  char text[64];
  int size = snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%09dZ", parts.tm_year + 1900, parts.tm_mon + 1,
                      parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                      static_cast<int>(ns % 1'000'000'000));
  return std::string(text, static_cast<size_t>(size));
}

}  // namespace keelson
