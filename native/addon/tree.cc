#include "addon/tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <unordered_set>
#include <vector>

#include "common/fd.h"

namespace keelson {

namespace {

// What a walk does with what it meets. Names are relative to the directory `parent`.
class Visitor {
 public:
  Visitor() = default;
  Visitor(const Visitor&) = delete;
  Visitor& operator=(const Visitor&) = delete;
  virtual ~Visitor() = default;
  // True: a directory to walk into.
  virtual Result<bool> entry(int parent, const char* name, unsigned char type) = 0;
  // A directory that is another mount and was not entered.
  virtual Status mount_point(const char* name) = 0;
  // All inside the directory has been visited.
  virtual Status leave(int parent, const char* name) = 0;
};

// One directory on the way from the root to where the walk stands. Kept by identity, not by
// descriptor: a tree deeper than the descriptor limit is a known trick.
struct Level {
  std::string name;
  dev_t device = 0;
  ino_t inode = 0;
  std::vector<std::string> pending;  // directories not walked yet
};

Fd open_directory(int parent, const char* name) {
  struct open_how how {};
  how.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  how.resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS;
  return Fd(static_cast<int>(::syscall(SYS_openat2, parent, name, &how, sizeof how)));
}

Result<Level> read_level(int directory, const char* name, Visitor& visitor) {
  struct stat info {};
  if (::fstat(directory, &info) != 0) return fail_errno(std::string("stat ") + name);
  Level level{name, info.st_dev, info.st_ino, {}};
  alignas(dirent64) std::array<char, 32768> buffer;
  for (;;) {
    ssize_t count = ::getdents64(directory, buffer.data(), buffer.size());
    if (count < 0) return fail_errno(std::string("list ") + name);
    if (count == 0) return level;
    for (ssize_t at = 0; at < count;) {
      const auto* found = reinterpret_cast<const dirent64*>(buffer.data() + at);
      at += found->d_reclen;
      std::string_view entry_name = found->d_name;
      if (entry_name == "." || entry_name == "..") continue;
      if (TRY(visitor.entry(directory, found->d_name, found->d_type))) level.pending.emplace_back(entry_name);
    }
  }
}

// Up one level, and sure that it is the directory the walk came down from.
Result<Fd> open_parent(int directory, const Level& expected) {
  Fd parent(::openat(directory, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat info {};
  if (!parent || ::fstat(parent.get(), &info) != 0) return fail_errno("go back to " + expected.name);
  if (info.st_dev != expected.device || info.st_ino != expected.inode) {
    return fail(Kind::state, "go back to " + expected.name, "somebody moves directories in the tree meanwhile");
  }
  return parent;
}

// Visits everything below the open directory `current`, children before their directory is left.
Status walk(Fd current, Visitor& visitor) {
  std::vector<Level> levels;
  levels.push_back(TRY(read_level(current.get(), "the root of the tree", visitor)));
  for (;;) {
    Level& top = levels.back();
    if (!top.pending.empty()) {
      std::string name = std::move(top.pending.back());
      top.pending.pop_back();
      Fd child = open_directory(current.get(), name.c_str());
      if (!child && errno == ENOENT) continue;
      if (!child && errno == EXDEV) {
        TRY(visitor.mount_point(name.c_str()));
        continue;
      }
      if (!child) return fail_errno("open directory " + name);
      levels.push_back(TRY(read_level(child.get(), name.c_str(), visitor)));
      current = std::move(child);
      continue;
    }
    if (levels.size() == 1) return {};
    current = TRY(open_parent(current.get(), levels[levels.size() - 2]));
    TRY(visitor.leave(current.get(), top.name.c_str()));
    levels.pop_back();
  }
}

class Measure final : public Visitor {
 public:
  explicit Measure(uint64_t max_inodes) : max_inodes_(max_inodes) {}

  Status count(const struct stat& info) {
    if (!S_ISDIR(info.st_mode) && info.st_nlink > 1 && !linked_.insert(info.st_ino).second) return {};
    use_.bytes += static_cast<uint64_t>(info.st_blocks) * 512;
    if (++use_.inodes > max_inodes_) {
      return fail(Kind::invalid, "measure it", "there are more than " + std::to_string(max_inodes_) + " inodes");
    }
    return {};
  }

  Result<bool> entry(int parent, const char* name, unsigned char) override {
    struct stat info {};
    if (::fstatat(parent, name, &info, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) return false;
      return fail_errno(std::string("stat ") + name);
    }
    if (info.st_dev != device_) return false;
    TRY(count(info));
    return S_ISDIR(info.st_mode);
  }

  Status mount_point(const char*) override { return {}; }
  Status leave(int, const char*) override { return {}; }

  void stay_on(dev_t device) { device_ = device; }
  const TreeUse& use() const { return use_; }

 private:
  uint64_t max_inodes_;
  dev_t device_ = 0;
  TreeUse use_;
  std::unordered_set<ino_t> linked_;
};

class Remove final : public Visitor {
 public:
  Result<bool> entry(int parent, const char* name, unsigned char type) override {
    if (type != DT_DIR) {
      if (::unlinkat(parent, name, 0) == 0 || errno == ENOENT) return false;
      // EISDIR: the file system does not tell types in a listing.
      if (errno != EISDIR) return fail_errno(std::string("remove ") + name);
    }
    // Most directories of a container's layer are empty or soon will be: try before walking in.
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
};

}  // namespace

Result<TreeUse> disk_usage(const std::string& path, uint64_t max_inodes) {
  Measure measure(max_inodes);
  Fd root(::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat info {};
  if (!root && errno == ENOENT) return std::unexpected(Error{Kind::not_found, "open it", {}, ENOENT, {}});
  if (!root || ::fstat(root.get(), &info) != 0) return fail_errno("open it");
  measure.stay_on(info.st_dev);
  TRY(measure.count(info));
  if (!S_ISDIR(info.st_mode)) return measure.use();
  Fd listing = open_directory(root.get(), ".");
  if (!listing) return fail_errno("open it");
  TRY(walk(std::move(listing), measure));
  return measure.use();
}

Status remove_tree(const std::string& path) {
  size_t slash = path.find_last_of('/');
  std::string above = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  std::string name = path.substr(slash + 1);
  if (name.empty() || name == "." || name == "..") return fail(Kind::invalid, "remove it", "its last name is not one");
  Fd parent(::open(above.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!parent && errno == ENOENT) return {};
  if (!parent) return fail_errno("open the directory above it");
  Remove remove;
  if (!TRY(remove.entry(parent.get(), name.c_str(), DT_UNKNOWN))) return {};
  Fd root = open_directory(parent.get(), name.c_str());
  if (!root && errno == ENOENT) return {};
  if (!root && errno == EXDEV) return remove.mount_point(name.c_str());
  if (!root) return fail_errno("open it");
  TRY(walk(std::move(root), remove));
  return remove.leave(parent.get(), name.c_str());
}

}  // namespace keelson
