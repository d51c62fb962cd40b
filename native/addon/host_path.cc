#include "addon/host_path.h"

#include <stdlib.h>

#include <memory>

#include "common/file.h"

namespace keelson {

namespace {

struct Free {
  void operator()(char* text) const { ::free(text); }
};

}  // namespace

Result<std::string> resolve_path(const std::string& path) {
  const std::unique_ptr<char, Free> resolved(::realpath(path.c_str(), nullptr));
  if (!resolved) return fail_errno("resolve");
  return std::string(resolved.get());
}

Result<std::string> present_path(const std::string& path) {
  Result<std::string> found = resolve_path(path);
  if (found || found.error().error_number != ENOENT) return found;
  TRY(make_directories(path, 0777));
  return resolve_path(path);
}

}  // namespace keelson
