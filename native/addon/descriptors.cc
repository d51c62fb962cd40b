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

std::optional<OpenDescriptors> count(const std::string& path, uint64_t limit) {
  Directory directory(::opendir(path.c_str()));
  if (!directory) return std::nullopt;
  OpenDescriptors open;
  while (const dirent* entry = ::readdir(directory.get())) {
    if (entry->d_name[0] == '.') continue;
    if (++open.all > limit) return std::nullopt;
    if (is_socket(::dirfd(directory.get()), entry->d_name)) ++open.sockets;
  }
  return open;
}

}  // namespace

std::vector<std::optional<OpenDescriptors>> count_descriptors(const std::vector<std::string>& directories,
                                                              uint64_t limit) {
  std::vector<std::optional<OpenDescriptors>> counts;
  counts.reserve(directories.size());
  for (const std::string& path : directories) {
    counts.push_back(count(path, limit));
    if (counts.back()) limit -= counts.back()->all;
  }
  return counts;
}

}  // namespace keelson
