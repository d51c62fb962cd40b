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

// The total length of the removed paths.
constexpr uint64_t max_bytes = 128 << 20;

std::string joined(const std::string& directory, std::string_view name) {
  return directory.empty() ? std::string(name) : directory + "/" + std::string(name);
}

// `path` may be "" for the layer's root. No Fd when it is missing or not a directory.
Fd open_in_layer(int layer, const std::string& path) {
  return open_resolved(layer, path.empty() ? "." : path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW,
                       RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV);
}

// Calls `visit` with each name in the directory and its stat(2). `path` is for errors.
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
    bytes_ += path.size();
    if (paths_.size() >= max_paths_ || bytes_ > max_bytes) {
      return fail(Kind::invalid, "list the removed files", "there are more than " + std::to_string(max_paths_) + " paths, or " +
                                                               std::to_string(max_bytes >> 20) + " MiB of paths");
    }
    paths_.push_back(std::move(path));
    return {};
  }

  // `upper` is an opaque directory: every entry that the layers below have there and `upper` lacks was removed.
  Status add_hidden(int upper, const std::string& directory) {
    std::unordered_set<std::string> known;
    auto look = [&](const std::string& name, const struct stat& info) -> Status {
      if (!known.insert(name).second || is_whiteout(info) || TRY(has(upper, name))) return {};
      return add(joined(directory, name));
    };
    for (const Fd& layer : layers_) {
      Fd listing = open_in_layer(layer.get(), directory);
      if (listing) TRY(each_file(listing.get(), directory, look));
      if (covers(layer.get(), directory)) return {};
    }
    return {};
  }

  std::vector<std::string> take() { return std::move(paths_); }

 private:
  // True when this layer hides that directory in the layers below: a part of its path is opaque or not a directory.
  static bool covers(int layer, const std::string& directory) {
    for (size_t end = directory.find('/');; end = directory.find('/', end + 1)) {
      const std::string prefix = directory.substr(0, end);
      Fd part = open_in_layer(layer, prefix);
      if (!part) return errno != ENOENT;
      if (is_opaque(part.get())) return true;
      if (end == std::string::npos) return false;
    }
  }

  static Result<bool> has(int directory, const std::string& name) {
    struct stat info {};
    if (::fstatat(directory, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) return true;
    if (errno == ENOENT) return false;
    return fail_errno("stat " + name);
  }

  std::vector<Fd> layers_;
  uint64_t max_paths_;
  uint64_t bytes_ = 0;
  std::vector<std::string> paths_;
};

// Holds only the path of the directory being visited: the paths of a million pending ones would take gigabytes.
class Search final : public TreeVisitor {
 public:
  explicit Search(Removals& removals) : removals_(removals) {}

  Result<bool> entry(int parent, const char* name, unsigned char) override {
    struct stat info {};
    if (::fstatat(parent, name, &info, AT_SYMLINK_NOFOLLOW) != 0) return fail_errno("stat " + joined(path_, name));
    if (is_whiteout(info)) TRY(removals_.add(joined(path_, name)));
    return S_ISDIR(info.st_mode);
  }

  Status enter(int directory, const char* name) override {
    if (!path_.empty()) path_ += '/';
    path_ += name;
    return look_below(directory);
  }

  Status leave(int, const char*) override {
    const size_t slash = path_.rfind('/');
    path_.erase(slash == std::string::npos ? 0 : slash);
    return {};
  }

  Status look_below(int directory) { return is_opaque(directory) ? removals_.add_hidden(directory, path_) : Status{}; }

 private:
  Removals& removals_;
  std::string path_;
};

}  // namespace

Result<std::vector<std::string>> removed_paths(const std::string& upper, const std::vector<std::string>& lower,
                                               uint64_t max_paths) {
  const Fd root = TRY(open_file(upper, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  std::vector<Fd> layers;
  for (const std::string& path : lower) layers.push_back(TRY(open_file(path, O_PATH | O_DIRECTORY)));
  Removals removals(std::move(layers), max_paths);
  Search search(removals);
  TRY(search.look_below(root.get()));
  TRY(walk_tree(root.get(), search));
  return removals.take();
}

}  // namespace keelson
