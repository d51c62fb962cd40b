// Joining namespaces by path; user namespaces as id maps: making new ones, and what ids become in them.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/fd.h"
#include "monitor/setup/child.h"
#include "monitor/setup/spec.h"

namespace keelson {

struct JoinedNamespace {
  int flag = 0;  // CLONE_NEW*
  std::string path;
  Fd fd;
};

// Opens those that have a path, and checks that each is of the kind it is called.
Result<std::vector<JoinedNamespace>> open_namespaces(const std::vector<NamespaceSpec>& spaces);

void join_namespaces(const Child& child, const std::vector<JoinedNamespace>& spaces);

// Of the namespaces without a path: the CLONE_NEW* that a process is to begin in.
uint64_t new_namespaces(const std::vector<NamespaceSpec>& spaces);

// A process that does nothing but hold namespaces until they are pinned or opened; it ends with this object.
class NamespaceHolder {
 public:
  // `flags`: CLONE_NEW* besides the user namespace, which owns them.
  static Result<NamespaceHolder> create(uint64_t flags, const std::vector<IdMapping>& uids,
                                        const std::vector<IdMapping>& gids);
  NamespaceHolder(NamespaceHolder&& other) noexcept;
  NamespaceHolder& operator=(NamespaceHolder&&) = delete;
  ~NamespaceHolder();

  int pidfd() const { return pidfd_.get(); }
  std::string path(const char* name) const;  // of the namespace "user", "net" …

 private:
  NamespaceHolder() = default;
  pid_t pid_ = 0;
  Fd pidfd_;
};

// The host's id for a container's; the kernel's overflow id for one that is not mapped.
uint32_t host_id(const std::vector<IdMapping>& mappings, uint32_t id);

// In the child: from the host's root to the root of the user namespace behind `fd`.
void enter_user_namespace(const Child& child, int fd);
// In a user namespace already: its root is somebody else than the one who came in.
void become_namespace_root(const Child& child);

}  // namespace keelson
