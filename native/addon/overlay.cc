#include "addon/overlay.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>

#include <functional>
#include <unordered_set>

#include "common/file.h"
#include "common/overlayfs.h"
#include "common/tree.h"

namespace keelson {

namespace {

std::string joined(const std::string& directory, std::string_view name) {
  return directory.empty() ? std::string(name) : directory + "/" + std::string(name);
}

// `path` may be "" for the layer's root. Invalid when it is not there, or not a directory.
Fd open_in_layer(int layer, const std::string& path) {
  return open_resolved(layer, path.empty() ? "." : path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW,
                       RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV);
}

// Calls back with each name in the directory at `path` and what stands there.
Status each_file(int directory, const std::string& path,
                 const std::function<Status(const std::string& name, const struct stat& info)>& visit) {
  return each_entry(directory, path, [&](const dirent64& found) -> Result<bool> {
    struct stat info {};
    if (::fstatat(directory, found.d_name, &info, AT_SYMLINK_NOFOLLOW) != 0) {
      return fail_errno("stat " + joined(path, found.d_name));
    }
    TRY(visit(found.d_name, info));
    return true;
  });
}

class Removals {
 public:
  Removals(std::vector<Fd> layers, uint64_t max_paths) : layers_(std::move(layers)), max_paths_(max_paths) {}

  Status add(std::string path) {
    if (paths_.size() >= max_paths_) {
      return fail(Kind::invalid, "list what was removed", "it is more than " + std::to_string(max_paths_) + " paths");
    }
    paths_.push_back(std::move(path));
    return {};
  }

  // An opaque directory with these names: all else that the layers below have there is removed.
  Status add_hidden(const std::string& directory, std::unordered_set<std::string> known) {
    for (const Fd& layer : layers_) {
      Fd listing = open_in_layer(layer.get(), directory);
      if (listing) {
        TRY(each_file(listing.get(), directory, [&](const std::string& name, const struct stat& info) -> Status {
          if (!known.insert(name).second || is_whiteout(info)) return {};
          return add(joined(directory, name));
        }));
      }
      if (covers(layer.get(), directory)) return {};
    }
    return {};
  }

  std::vector<std::string> take() { return std::move(paths_); }

 private:
  // True when layers below this one show nothing at that place: an opaque directory on the way, or no directory.
  static bool covers(int layer, const std::string& directory) {
    for (size_t end = directory.find('/');; end = directory.find('/', end + 1)) {
      const std::string prefix = directory.substr(0, end);
      Fd part = open_in_layer(layer, prefix);
      if (!part) return errno != ENOENT;
      if (is_opaque(part.get())) return true;
      if (end == std::string::npos) return false;
    }
  }

  std::vector<Fd> layers_;
  uint64_t max_paths_;
  std::vector<std::string> paths_;
};

// One open directory at a time, whatever the depth.
Status search(int upper, Removals& removals) {
  std::vector<std::string> pending{""};
  while (!pending.empty()) {
    const std::string path = std::move(pending.back());
    pending.pop_back();
    Fd directory = open_in_layer(upper, path);
    if (!directory) return fail_errno("open directory " + path);
    std::unordered_set<std::string> names;
    TRY(each_file(directory.get(), path, [&](const std::string& name, const struct stat& info) -> Status {
      names.insert(name);
      if (is_whiteout(info)) return removals.add(joined(path, name));
      if (S_ISDIR(info.st_mode)) pending.push_back(joined(path, name));
      return {};
    }));
    if (!is_opaque(directory.get())) continue;
    TRY(removals.add_hidden(path, std::move(names)));
  }
  return {};
}

}  // namespace

Result<std::vector<std::string>> removed_paths(const std::string& upper, const std::vector<std::string>& lower,
                                               uint64_t max_paths) {
  const Fd root = TRY(open_file(upper, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  std::vector<Fd> layers;
  for (const std::string& path : lower) layers.push_back(TRY(open_file(path, O_PATH | O_DIRECTORY)));
  Removals removals(std::move(layers), max_paths);
  TRY(search(root.get(), removals));
  return removals.take();
}

}  // namespace keelson
