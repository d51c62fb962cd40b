// Opening and joining namespaces by path.
#pragma once

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

// Of the namespaces without a path: the CLONE_NEW* that a process is to be born with.
uint64_t new_namespaces(const std::vector<NamespaceSpec>& spaces);

}  // namespace keelson
