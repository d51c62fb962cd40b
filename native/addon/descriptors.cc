#include "addon/descriptors.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <memory>
#include <string_view>

namespace keelson {

namespace {

using Directory = std::unique_ptr<DIR, decltype([](DIR* directory) { ::closedir(directory); })>;

bool is_socket(int directory, const char* name) {
  constexpr std::string_view prefix = "socket:";
  char target[prefix.size()];
  ssize_t length = ::readlinkat(directory, name, target, sizeof target);
  return length > 0 && std::string_view(target, static_cast<size_t>(length)) == prefix;
}

}  // namespace

Result<OpenDescriptors> count_descriptors(const std::vector<std::string>& directories, uint64_t limit) {
  OpenDescriptors open;
  for (const std::string& path : directories) {
    Directory directory(::opendir(path.c_str()));
    if (!directory) continue;
    while (const dirent* entry = ::readdir(directory.get())) {
      if (entry->d_name[0] == '.') continue;
      if (open.all == limit) return fail(Kind::invalid, "count open descriptors", "more than " + std::to_string(limit));
      ++open.all;
      if (is_socket(::dirfd(directory.get()), entry->d_name)) ++open.sockets;
    }
  }
  return open;
}

}  // namespace keelson
