#include "common/tree.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <optional>
#include <unordered_set>
#include <vector>

#include "common/fd.h"

namespace keelson {

namespace {

constexpr size_t max_pending_bytes = 1024 * 1024;
// Each level costs some microseconds, and a container may move its directories as often as it likes.
constexpr size_t max_levels_back = 1000;

// One directory on the way from the root to the current one. Kept by identity, not by descriptor: a tree deeper than the
// descriptor limit is a known attack.
struct Level {
  std::string name;
  dev_t device = 0;
  ino_t inode = 0;
  std::vector<std::string> pending;  // directories not walked yet
  std::optional<off_t> rest;         // where to continue the listing once these are walked
};

// Errors that have nothing to do with the file.
bool is_shortage(int error) { return error == ENOMEM || error == EMFILE || error == ENFILE; }

Fd open_directory(int parent, const char* name) {
  return open_resolved(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS);
}

bool is_at(const Fd& directory, const Level& level) {
  struct stat info {};
  return ::fstat(directory.get(), &info) == 0 && info.st_dev == level.device && info.st_ino == level.inode;
}

// Goes up one level and checks that this is the directory the walk came from.
Result<Fd> open_parent(int directory, const Level& expected) {
  Fd parent(::openat(directory, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!parent) return fail_errno("go back to " + expected.name);
  if (is_at(parent, expected)) return parent;
  return fail(Kind::state, "go back to " + expected.name, "a directory was moved during the walk");
}

// The implementation of walk_tree().
class Walk {
 public:
  explicit Walk(TreeVisitor& visitor) : visitor_(visitor) {}

  Status run(Fd root) {
    if (visitor_.is_lenient()) {
      root_ = Fd(::fcntl(root.get(), F_DUPFD_CLOEXEC, 0));
      if (!root_) return fail_errno("duplicate the descriptor of the tree's root");
    }
    current_ = std::move(root);
    TRY(enter("the root of the tree"));
    for (;;) {
      Level& top = levels_.back();
      if (!top.pending.empty()) {
        TRY(descend(take_pending(top)));
      } else if (top.rest) {
        TRY(list_rest(top));
      } else if (levels_.size() > 1) {
        TRY(leave());
      } else {
        return {};
      }
    }
  }

 private:
  // Starts a new level for `current_`.
  Status enter(const char* name) {
    struct stat info {};
    if (::fstat(current_.get(), &info) != 0) return fail_errno(std::string("stat ") + name);
    levels_.push_back({name, info.st_dev, info.st_ino, {}, {}});
    return list(levels_.back());
  }

  Status list_rest(Level& level) {
    if (::lseek(current_.get(), *level.rest, SEEK_SET) < 0) return fail_errno("list the rest of " + level.name);
    level.rest.reset();
    return list(level);
  }

  // Lists to the end, or until so many directories are pending that they must be walked first: a hostile tree may have
  // millions of names. A walk that removes then lists from the beginning again, as offsets may count removed entries.
  Status list(Level& level) {
    return each_entry(current_.get(), level.name, [&](const dirent64& found) -> Result<bool> {
      if (!TRY(visitor_.entry(current_.get(), found.d_name, found.d_type))) return true;
      level.pending.emplace_back(found.d_name);
      pending_bytes_ += weight(level.pending.back());
      if (pending_bytes_ < max_pending_bytes) return true;
      level.rest = visitor_.removes() ? 0 : found.d_off;
      return false;
    });
  }

  static size_t weight(const std::string& name) { return sizeof name + name.size(); }

  std::string take_pending(Level& level) {
    std::string name = std::move(level.pending.back());
    level.pending.pop_back();
    pending_bytes_ -= weight(name);
    return name;
  }

  Status descend(const std::string& name) {
    Fd child = open_directory(current_.get(), name.c_str());
    if (!child && errno == ENOENT) return {};
    if (!child && errno == EXDEV) return visitor_.mount_point(name.c_str());
    if (!child && visitor_.is_lenient() && !is_shortage(errno)) return {};
    if (!child) return fail_errno("open directory " + name);
    current_ = std::move(child);
    TRY(visitor_.enter(current_.get(), name.c_str()));
    return enter(name.c_str());
  }

  Status leave() {
    Result<Fd> parent = open_parent(current_.get(), levels_[levels_.size() - 2]);
    if (!parent && visitor_.is_lenient()) return find_back();
    current_ = TRY(std::move(parent));
    TRY(visitor_.leave(current_.get(), levels_.back().name.c_str()));
    levels_.pop_back();
    return {};
  }

  // Walks down from the root again, as far as the directories are still in place, up to a maximum depth. Those that were
  // moved or are deeper are abandoned.
  Status find_back() {
    current_ = open_directory(root_.get(), ".");
    if (!current_) return fail_errno("open the root of the tree again");
    size_t found = 1;
    for (; found + 1 < levels_.size() && found <= max_levels_back; ++found) {
      Fd below = open_directory(current_.get(), levels_[found].name.c_str());
      if (!below || !is_at(below, levels_[found])) break;
      current_ = std::move(below);
    }
    for (; levels_.size() > found; levels_.pop_back()) {
      for (const std::string& name : levels_.back().pending) pending_bytes_ -= weight(name);
    }
    return {};
  }

  TreeVisitor& visitor_;
  Fd root_;  // of a lenient walk
  Fd current_;
  std::vector<Level> levels_;
  size_t pending_bytes_ = 0;
};

class Measure final : public TreeVisitor {
 public:
  explicit Measure(uint64_t max_inodes) : max_inodes_(max_inodes) {}

  Status count(const struct stat& info) {
    if (!S_ISDIR(info.st_mode) && info.st_nlink > 1 && !linked_.insert(info.st_ino).second) return {};
    is_full_ = use_.inodes == max_inodes_;
    if (is_full_) return fail(Kind::invalid, "measure", "it has more inodes than the limit");
    use_.bytes += static_cast<uint64_t>(info.st_blocks) * 512;
    ++use_.inodes;
    return {};
  }

  Result<bool> entry(int parent, const char* name, unsigned char) override {
    struct stat info {};
    if (::fstatat(parent, name, &info, AT_SYMLINK_NOFOLLOW) != 0) {
      if (is_shortage(errno)) return fail_errno(std::string("stat ") + name);
      return false;
    }
    if (info.st_dev != device_) return false;
    TRY(count(info));
    return S_ISDIR(info.st_mode);
  }

  bool is_lenient() const override { return true; }

  void stay_on(dev_t device) { device_ = device; }
  const TreeUse& use() const { return use_; }
  bool is_full() const { return is_full_; }

 private:
  uint64_t max_inodes_;
  dev_t device_ = 0;
  TreeUse use_;
  bool is_full_ = false;
  std::unordered_set<ino_t> linked_;
};

class Remove final : public TreeVisitor {
 public:
  Result<bool> entry(int parent, const char* name, unsigned char type) override {
    if (type != DT_DIR) {
      if (::unlinkat(parent, name, 0) == 0 || errno == ENOENT) return false;
      // EISDIR: the file system does not report types in listings.
      if (errno != EISDIR) return fail_errno(std::string("remove ") + name);
    }
    // Most directories of a container's layer are empty or will be soon, so try rmdir before walking in.
    if (::unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT) return false;
    if (errno == ENOTEMPTY || errno == EEXIST) return true;
    return fail_errno(std::string("remove directory ") + name);
  }

  Status mount_point(const char* name) override {
    errno = EBUSY;
    return fail_errno(std::string("remove directory ") + name + ", which is a mount point");
  }

  Status leave(int parent, const char* name) override {
    if (::unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT) return {};
    return fail_errno(std::string("remove directory ") + name);
  }

  bool removes() const override { return true; }
};

}  // namespace

Status each_entry(int directory, const std::string& name, const std::function<Result<bool>(const dirent64&)>& visit) {
  alignas(dirent64) std::array<char, 32768> buffer;
  for (;;) {
    ssize_t count = ::getdents64(directory, buffer.data(), buffer.size());
    // ENOENT: the directory has been removed meanwhile, for example by a second removal of the same tree.
    if (count == 0 || (count < 0 && errno == ENOENT)) return {};
    if (count < 0) return fail_errno("list " + name);
    for (ssize_t at = 0; at < count;) {
      const auto* found = reinterpret_cast<const dirent64*>(buffer.data() + at);
      at += found->d_reclen;
      std::string_view entry_name = found->d_name;
      if (entry_name == "." || entry_name == "..") continue;
      if (!TRY(visit(*found))) return {};
    }
  }
}

Status walk_tree(int directory, TreeVisitor& visitor) {
  Fd listing = open_directory(directory, ".");
  if (!listing) return fail_errno("open the directory");
  return Walk(visitor).run(std::move(listing));
}

Result<TreeUse> disk_usage(const std::string& path, uint64_t max_inodes) {
  Measure measure(max_inodes);
  Fd root(::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat info {};
  if (!root && errno == ENOENT) return std::unexpected(Error{Kind::not_found, "open", {}, ENOENT, {}});
  if (!root || ::fstat(root.get(), &info) != 0) return fail_errno("open");
  measure.stay_on(info.st_dev);
  TRY(measure.count(info));
  if (!S_ISDIR(info.st_mode)) return measure.use();
  if (Status walked = walk_tree(root.get(), measure); !walked && !measure.is_full()) {
    return std::unexpected(std::move(walked.error()));
  }
  return measure.use();
}

Status remove_tree(const std::string& path) {
  size_t slash = path.find_last_of('/');
  std::string above = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  std::string name = path.substr(slash + 1);
  if (name.empty() || name == "." || name == "..") return fail(Kind::invalid, "remove", "its last component is not a name");
  Fd parent(::open(above.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!parent && errno == ENOENT) return {};
  if (!parent) return fail_errno("open its parent directory");
  return remove_tree_at(parent.get(), name.c_str());
}

Status remove_tree_at(int parent, const char* name) {
  Remove remove;
  if (!TRY(remove.entry(parent, name, DT_UNKNOWN))) return {};
  Fd root = open_directory(parent, name);
  if (!root && errno == ENOENT) return {};
  if (!root && errno == EXDEV) return remove.mount_point(name);
  if (!root) return fail_errno(std::string("open directory ") + name);
  TRY(Walk(remove).run(std::move(root)));
  return remove.leave(parent, name);
}

}  // namespace keelson
