#include "unpack/layer_root.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <deque>
#include <vector>

#include "common/overlayfs.h"
#include "common/tree.h"
#include "common/unnamed.h"

namespace keelson {

namespace {

constexpr uint64_t directory_flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
constexpr int most_links = 40;  // as the kernel's own limit, path_resolution(7)
// With those that links add. Forty links of PATH_MAX have 80,000, which would take a third of a second for every entry.
constexpr size_t most_components = 4 * max_path_components;

std::string named(std::string_view step, std::string_view name) { return std::string(step) + " " + quoted(name); }

// Resolves a path component by component, as the kernel would, and creates what is missing: needed for a link whose target
// no entry has created yet. `real_` never contains a link, so opening it follows none.
class PathMaker {
 public:
  PathMaker(LayerRoot& root, std::string_view path) : root_(root) { prepend(path); }

  Result<Fd> run() {
    TRY(reopen());
    for (size_t components = 0; !pending_.empty(); ++components) {
      if (components == most_components) {
        return fail(Kind::limit, "find the entry's directory",
                    "links lead through more than " + std::to_string(most_components) + " components");
      }
      std::string name = std::move(pending_.front());
      pending_.pop_front();
      TRY(name == ".." ? up() : down(name));
    }
    return std::move(current_);
  }

 private:
  void prepend(std::string_view path) {
    std::vector<std::string> components;
    for (size_t at = 0; at < path.size();) {
      size_t end = std::min(path.find('/', at), path.size());
      std::string_view component = path.substr(at, end - at);
      at = end + 1;
      if (!component.empty() && component != ".") components.emplace_back(component);
    }
    pending_.insert(pending_.begin(), components.begin(), components.end());
  }

  Status reopen() {
    current_ = TRY(root_.open_directory(real_, false));
    return {};
  }

  Status up() {
    real_.resize(real_.find('/') == real_.npos ? 0 : real_.rfind('/'));
    return reopen();
  }

  Status down(const std::string& name) {
    struct stat status {};
    if (fstatat(current_.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0 && errno != ENOENT) {
      return fail_errno(named("stat the parent", name));
    }
    if (S_ISLNK(status.st_mode)) return follow(name);
    LayerPath deeper = TRY(LayerPath::parse(real_.empty() ? name : real_ + "/" + name));
    bool usable = status.st_mode == 0 || S_ISDIR(status.st_mode) || is_whiteout(status);
    if (!usable) return fail(Kind::invalid, named("use the parent", name), "it is not a directory");
    TRY(mark_way(current_.get()));
    current_ = TRY(root_.make_directory(current_.get(), name.c_str()));
    if (!S_ISDIR(status.st_mode)) TRY(disown());
    if (status.st_mode == 0) TRY(mark_unnamed(current_.get()));
    real_ = deeper.text();
    return {};
  }

  // A directory with the set-group-id bit passes the bit and its group on to directories created in it.
  Status disown() {
    if (fchown(current_.get(), 0, 0) != 0) return fail_errno("set the owner");
    if (fchmod(current_.get(), 0755) != 0) return fail_errno("set the mode");
    return {};
  }

  Status follow(const std::string& name) {
    if (++links_ > most_links) {
      return fail(Kind::invalid, named("follow the link", name), "it leads through too many symbolic links");
    }
    char target[PATH_MAX];
    ssize_t length = readlinkat(current_.get(), name.c_str(), target, sizeof target);
    if (length < 0) return fail_errno(named("read the link", name));
    std::string_view text(target, static_cast<size_t>(length));
    prepend(text);
    if (!text.starts_with('/')) return {};
    real_.clear();
    return reopen();
  }

  LayerRoot& root_;
  std::deque<std::string> pending_;
  std::string real_;
  Fd current_;
  int links_ = 0;
};

}  // namespace

Result<Fd> LayerRoot::open_directory(std::string_view path, bool follow_last) const {
  std::string text(path.empty() ? "." : path);
  uint64_t flags = directory_flags | (follow_last ? 0 : O_NOFOLLOW);
  Fd directory = open_resolved(root_, text.c_str(), flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
  if (directory) return directory;
  int reason = errno;
  bool missing = reason == ENOENT || reason == ENOTDIR || reason == ELOOP;
  Kind kind = missing ? Kind::not_found : Kind::system;
  return std::unexpected(Error{kind, named("open the directory", text), {}, reason, {}});
}

Status LayerRoot::take_inode() {
  if (inodes_ == max_inodes_) {
    return fail(Kind::limit, "unpack the layer", "it has more than " + std::to_string(max_inodes_) + " inodes");
  }
  ++inodes_;
  return {};
}

Result<int> LayerRoot::parent_of(const LayerPath& path) {
  std::string_view parent = path.parent();
  if (parent.empty()) return root_;
  if (cached_ && !cache_stale_ && parent == cached_path_) return cached_.get();
  Result<Fd> opened = open_directory(parent, true);
  if (!opened && opened.error().kind == Kind::not_found) opened = make_path(parent);
  if (!opened) return std::unexpected(opened.error());
  remember(std::string(parent), std::move(*opened));
  return cached_.get();
}

Result<Fd> LayerRoot::make_path(std::string_view path) { return PathMaker(*this, path).run(); }

void LayerRoot::remember(const std::string& path, Fd directory) {
  cached_path_ = path;
  cached_ = std::move(directory);
  cache_stale_ = false;
}

Result<Fd> LayerRoot::make_directory(int parent, const char* name) {
  bool was_whiteout = false;
  struct stat status {};
  if (fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(status.st_mode)) {
    was_whiteout = is_whiteout(status);
    TRY(remove(parent, name));
    status.st_mode = 0;
  }
  if (!S_ISDIR(status.st_mode)) {
    TRY(take_inode());
    if (mkdirat(parent, name, 0755) != 0) return fail_errno(named("create the directory", name));
  }
  Fd directory(openat(parent, name, directory_flags | O_NOFOLLOW));
  if (!directory) return fail_errno(named("open the directory", name));
  if (was_whiteout) TRY(make_opaque(directory.get()));
  return directory;
}

Status LayerRoot::remove(int parent, const char* name) {
  cache_stale_ = true;
  Status removed = remove_tree_at(parent, name);
  if (!removed) removed.error().step = named("replace", name);  // the original step has an unquoted name from the layer
  return removed;
}

}  // namespace keelson
