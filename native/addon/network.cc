// Sources: setns(2), if_nametoindex(3), ioctl_nsfs(2), mount_namespaces(7), proc_pid_net(5).
#include "addon/network.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include <functional>

#include "addon/own_thread.h"
#include "common/fd.h"
#include "common/file.h"

namespace keelson {

namespace {

Result<Fd> open_network_namespace(const std::string& path) {
  Fd space(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!space && (errno == ENOENT || errno == ENOTDIR)) return fail(Kind::not_found, "open", "it does not exist");
  if (!space) return fail_errno("open");
  // Any other file returns ENOTTY: the pin was unmounted and only its file is left.
  if (::ioctl(space.get(), NS_GET_NSTYPE) != CLONE_NEWNET) {
    return fail(Kind::not_found, "open", "it is not a network namespace");
  }
  return space;
}

Result<bool> is_there(const std::string& interface) {
  if (::if_nametoindex(interface.c_str()) != 0) return true;
  if (errno == ENODEV) return false;
  return fail_errno("find " + interface);
}

// Runs `what` in the network namespace at `space`.
template <class Answer>
Result<Answer> seen_in(const std::string& space, const std::function<Result<Answer>()>& what) {
  const Fd opened = TRY(open_network_namespace(space));
  Result<Answer> answer;
  // A thread stays in the namespace that it enters, so this uses a temporary thread; those of the pool stay in the host's.
  TRY(in_own_thread([&] {
    if (::setns(opened.get(), CLONE_NEWNET) == 0) answer = what();
    else answer = fail_errno("enter");
  }));
  return answer;
}

constexpr size_t max_interfaces_file = 64 << 10;

}  // namespace

Status pin_namespace(const std::string& space, const std::string& pin) {
  Fd source = TRY(open_network_namespace(space));
  Fd file(::open(pin.c_str(), O_RDONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600));
  if (!file) return about(fail_errno("create"), pin);
  const std::string held = "/proc/self/fd/" + std::to_string(source.get());
  if (::mount(held.c_str(), pin.c_str(), nullptr, MS_BIND, nullptr) == 0) return {};
  return about(fail_errno("bind mount the namespace on it"), pin);
}

Result<bool> has_interface(const std::string& space, const std::string& interface) {
  return seen_in<bool>(space, [&] { return is_there(interface); });
}

Result<std::string> read_interfaces(const std::string& space) {
  return seen_in<std::string>(space, [] { return read_file("/proc/thread-self/net/dev", max_interfaces_file); });
}

}  // namespace keelson
