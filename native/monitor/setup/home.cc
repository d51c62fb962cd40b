// Sources: passwd(5), openat2(2).
#include "monitor/setup/home.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <cstring>
#include <string_view>
#include <utility>

#include "common/fd.h"

namespace keelson {

namespace {

constexpr size_t max_file = 1 << 20;

// Removes the field up to the next colon from the line.
std::string_view take_field(std::string_view& line) {
  const size_t colon = line.find(':');
  const std::string_view field = line.substr(0, colon);
  line.remove_prefix(colon == line.npos ? line.size() : colon + 1);
  return field;
}

bool is_number(std::string_view field, uid_t& number) {
  const auto [rest, code] = std::from_chars(field.data(), field.data() + field.size(), number);
  return code == std::errc() && rest == field.data() + field.size();
}

// True if the line, name:password:uid:gid:comment:home:shell, is of that user.
bool parse_home(std::string_view line, uid_t wanted, std::string_view& home) {
  const std::string_view name = take_field(line);
  take_field(line);
  uid_t uid, gid;
  if (!is_number(take_field(line), uid) || !is_number(take_field(line), gid) || name.empty() || uid != wanted) return false;
  take_field(line);
  home = take_field(line);
  return true;
}

// Neither blocks nor leaves the root, whatever a container may have put there instead.
Fd open_passwd() {
  Fd file = open_resolved(AT_FDCWD, "/etc/passwd", O_RDONLY | O_NONBLOCK | O_NOCTTY, RESOLVE_NO_MAGICLINKS);
  struct stat status;
  return file && fstat(file.get(), &status) == 0 && S_ISREG(status.st_mode) ? std::move(file) : Fd();
}

}  // namespace

void find_home(uid_t uid, char (&home)[max_home]) {
  strcpy(home, "/");
  const Fd file = open_passwd();
  char text[max_home];
  size_t filled = 0;
  bool is_rest = false;  // of a line that is too long
  for (size_t total = 0; file && total < max_file;) {
    const ssize_t size = read(file.get(), text + filled, sizeof text - filled);
    const bool ended = size <= 0;
    if (ended && filled == 0) return;
    if (ended) {
      text[filled++] = '\n';
    } else {
      filled += static_cast<size_t>(size);
      total += static_cast<size_t>(size);
    }
    std::string_view left(text, filled);
    for (size_t end = left.find('\n'); end != left.npos; end = left.find('\n')) {
      std::string_view found;
      if (!std::exchange(is_rest, false) && parse_home(left.substr(0, end), uid, found)) {
        if (found.empty() || found.find('\0') != found.npos) return;
        memcpy(home, found.data(), found.size());
        home[found.size()] = '\0';
        return;
      }
      left.remove_prefix(end + 1);
    }
    if (ended) return;
    is_rest |= left.size() == sizeof text;
    filled = is_rest ? 0 : left.size();
    memmove(text, left.data(), filled);
  }
}

}  // namespace keelson
