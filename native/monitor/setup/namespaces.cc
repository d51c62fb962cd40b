// Namespaces by path. Sources: namespaces(7), ioctl_nsfs(2).
#include "monitor/setup/namespaces.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>

namespace keelson {

Result<std::vector<JoinedNamespace>> open_namespaces(const std::vector<NamespaceSpec>& spaces) {
  std::vector<JoinedNamespace> joined;
  for (const NamespaceSpec& space : spaces) {
    if (space.path.empty()) continue;
    Fd fd(open(space.path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) return fail_errno("open the namespace " + space.path);
    if (ioctl(fd.get(), NS_GET_NSTYPE) != space.flag) {
      return fail(Kind::invalid, "open the namespace " + space.path, "it is not of the type it is named for");
    }
    joined.push_back({space.flag, space.path, std::move(fd)});
  }
  return joined;
}

void join_namespaces(const Child& child, const std::vector<JoinedNamespace>& spaces) {
  for (const JoinedNamespace& space : spaces) {
    if (setns(space.fd.get(), space.flag) != 0) child.die(Step::join_namespace, space.path.c_str());
  }
}

uint64_t new_namespaces(const std::vector<NamespaceSpec>& spaces) {
  uint64_t flags = 0;
  for (const NamespaceSpec& space : spaces) {
    if (space.path.empty()) flags |= static_cast<uint64_t>(space.flag);
  }
  return flags;
}

}  // namespace keelson
