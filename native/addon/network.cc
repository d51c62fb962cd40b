// Sources: setns(2), getifaddrs(3), ioctl_nsfs(2), mount_namespaces(7).
#include "addon/network.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/nsfs.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include "common/fd.h"

namespace keelson {

namespace {

Result<Fd> open_network_namespace(const std::string& path) {
  Fd space(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!space && (errno == ENOENT || errno == ENOTDIR)) return fail(Kind::not_found, "open it", "nothing is there");
  if (!space) return fail_errno("open it");
  // Any other file answers ENOTTY: the pin is gone and its file is left.
  if (::ioctl(space.get(), NS_GET_NSTYPE) != CLONE_NEWNET) {
    return fail(Kind::not_found, "open it", "it is not a network namespace");
  }
  return space;
}

std::string to_text(const sockaddr* address) {
  char text[INET6_ADDRSTRLEN] = {};
  const void* bytes = address->sa_family == AF_INET
                          ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in*>(address)->sin_addr)
                          : &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr;
  return ::inet_ntop(address->sa_family, bytes, text, sizeof text) == nullptr ? std::string() : std::string(text);
}

Result<std::vector<std::string>> own_addresses(const std::string& interface) {
  if (::if_nametoindex(interface.c_str()) == 0) {
    if (errno == ENODEV) return fail(Kind::not_found, "look for " + interface, "there is no such interface");
    return fail_errno("look for " + interface);
  }
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return fail_errno("list the addresses");
  std::vector<std::string> addresses;
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || interface != entry->ifa_name) continue;
    const int family = entry->ifa_addr->sa_family;
    if (family == AF_INET || family == AF_INET6) addresses.push_back(to_text(entry->ifa_addr));
  }
  ::freeifaddrs(list);
  return addresses;
}

struct Look {
  int space;
  const std::string& interface;
  Result<std::vector<std::string>> found;
};

void* look(void* argument) {
  auto* task = static_cast<Look*>(argument);
  if (::setns(task->space, CLONE_NEWNET) != 0) {
    task->found = fail_errno("enter it");
  } else {
    task->found = own_addresses(task->interface);
  }
  return nullptr;
}

}  // namespace

Status pin_namespace(const std::string& space, const std::string& pin) {
  Fd source = TRY(open_network_namespace(space));
  Fd file(::open(pin.c_str(), O_RDONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600));
  if (!file) return about(fail_errno("make it"), pin);
  const std::string held = "/proc/self/fd/" + std::to_string(source.get());
  if (::mount(held.c_str(), pin.c_str(), nullptr, MS_BIND, nullptr) == 0) return {};
  return about(fail_errno("pin the namespace on it"), pin);
}

Result<std::vector<std::string>> interface_addresses(const std::string& space, const std::string& interface) {
  Fd opened = TRY(open_network_namespace(space));
  // A thread that enters a namespace keeps it: this one ends with the look, the pool's stay in the host's.
  Look task{opened.get(), interface, {}};
  pthread_t thread = {};
  if (int error = ::pthread_create(&thread, nullptr, look, &task)) return fail_errno("start a thread", error);
  ::pthread_join(thread, nullptr);
  return std::move(task.found);
}

}  // namespace keelson
