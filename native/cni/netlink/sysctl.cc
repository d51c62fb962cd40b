#include "cni/netlink/sysctl.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <string_view>

#include "common/fd.h"

namespace keelson {

namespace {

bool has_value(const std::string& path, std::string_view value) {
  Fd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char content[64];
  ssize_t count = file ? read(file.get(), content, sizeof content) : -1;
  if (count <= 0) return false;
  std::string_view found(content, static_cast<size_t>(count));
  if (found.ends_with('\n')) found.remove_suffix(1);
  return found == value;
}

}  // namespace

Status set_sysctl(const std::string& path, const char* value) {
  std::string file_name = "/proc/sys/" + path;
  if (has_value(file_name, value)) return {};
  Fd file(open(file_name.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file || write(file.get(), value, strlen(value)) < 0) return fail_errno("set " + path + " to " + value);
  return {};
}

void try_sysctl(const std::string& path, const char* value) {
  Fd file(open(("/proc/sys/" + path).c_str(), O_WRONLY | O_CLOEXEC));
  [[maybe_unused]] ssize_t count = file ? write(file.get(), value, strlen(value)) : -1;
}

Status enable_forwarding(int family) {
  return set_sysctl(family == AF_INET ? "net/ipv4/ip_forward" : "net/ipv6/conf/all/forwarding", "1");
}

}  // namespace keelson
