// Sources: setns(2), if_nametoindex(3), ioctl_nsfs(2), mount_namespaces(7).
#include "addon/network.h"

#include <fcntl.h>
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

Result<bool> is_there(const std::string& interface) {
  if (::if_nametoindex(interface.c_str()) != 0) return true;
  if (errno == ENODEV) return false;
  return fail_errno("look for " + interface);
}

struct Look {
  int space;
  const std::string& interface;
  Result<bool> found;
};

void* look(void* argument) {
  auto* task = static_cast<Look*>(argument);
  if (::setns(task->space, CLONE_NEWNET) != 0) {
    task->found = fail_errno("enter it");
  } else {
    task->found = is_there(task->interface);
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

Result<bool> has_interface(const std::string& space, const std::string& interface) {
  Fd opened = TRY(open_network_namespace(space));
  // A thread that enters a namespace keeps it: this one ends with the look, the pool's stay in the host's.
  Look task{opened.get(), interface, {}};
  pthread_t thread = {};
  if (int error = ::pthread_create(&thread, nullptr, look, &task)) return fail_errno("start a thread", error);
  ::pthread_join(thread, nullptr);
  return std::move(task.found);
}

}  // namespace keelson
