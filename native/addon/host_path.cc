#include "addon/host_path.h"

#include <stdlib.h>
#include <sys/stat.h>

#include <memory>

namespace keelson {

namespace {

struct Free {
  void operator()(char* text) const { ::free(text); }
};

Result<std::string> resolve(const std::string& path) {
  const std::unique_ptr<char, Free> resolved(::realpath(path.c_str(), nullptr));
  if (!resolved) return fail_errno("resolve it");
  return std::string(resolved.get());
}

Status make_directories(const std::string& path) {
  for (size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string directory = path.substr(0, end);
    if (::mkdir(directory.c_str(), 0777) != 0 && errno != EEXIST) return fail_errno("make directory " + directory);
    if (end == path.npos) return {};
  }
}

}  // namespace

Result<std::string> present_path(const std::string& path) {
  Result<std::string> found = resolve(path);
  if (found || found.error().error_number != ENOENT) return found;
  TRY(make_directories(path));
  return resolve(path);
}

}  // namespace keelson
