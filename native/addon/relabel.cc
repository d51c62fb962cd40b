// Sources: xattr(7), openat2(2), proc_pid_fd(5).
#include "addon/relabel.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <array>
#include <chrono>
#include <cstring>
#include <string_view>

#include "common/fd.h"
#include "common/tree.h"

namespace keelson {

namespace {

constexpr const char* attribute = "security.selinux";
using Clock = std::chrono::steady_clock;

// The path by which attributes of a file of any type are reached without really opening it, which would have effects on a
// device or a FIFO. The link in procfs leads to the file itself, even if that is a symbolic link.
std::string by_descriptor(const Fd& object) { return "/proc/self/fd/" + std::to_string(object.get()); }

bool is_labelled(const Fd& object, std::string_view label) {
  std::array<char, 4096> found;
  const ssize_t size = ::getxattr(by_descriptor(object).c_str(), attribute, found.data(), found.size());
  if (size < 0) return false;
  // The kernel stores it with the NUL byte, some tools without.
  return label == std::string_view(found.data(), ::strnlen(found.data(), static_cast<size_t>(size)));
}

class Relabel final : public TreeVisitor {
 public:
  Relabel(const std::string& label, uint64_t max_inodes, uint64_t max_seconds)
      : label_(label), max_inodes_(max_inodes), end_(Clock::now() + std::chrono::seconds(max_seconds)) {}

  Result<bool> entry(int parent, const char* name, unsigned char) override {
    TRY(count());
    const Fd object = open_entry(parent, name);
    if (!object) {
      TRY(skip_if_gone(name));
      return false;
    }
    struct stat info;
    if (::fstat(object.get(), &info) != 0) return fail_errno(std::string("stat ") + name);
    if (S_ISDIR(info.st_mode)) return true;
    TRY(label(object, name));
    return false;
  }

  Status leave(int parent, const char* name) override {
    const Fd object = open_entry(parent, name);
    if (!object) return skip_if_gone(name);
    return label(object, name);
  }

  Status label(const Fd& object, const char* name) {
    if (is_labelled(object, label_)) return {};
    if (::setxattr(by_descriptor(object).c_str(), attribute, label_.c_str(), label_.size() + 1, 0) != 0) {
      if (errno == EOPNOTSUPP) return {};
      return fail_errno(std::string("label ") + name);
    }
    ++labelled_;
    return {};
  }

  uint64_t labelled() const { return labelled_; }

 private:
  static Fd open_entry(int parent, const char* name) {
    return open_resolved(parent, name, O_PATH | O_NOFOLLOW, RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS);
  }

  // Fails with errno, unless the file was removed meanwhile or belongs to another mount: then it is skipped.
  static Status skip_if_gone(const char* name) {
    if (errno == ENOENT || errno == EXDEV) return {};
    return fail_errno(std::string("open ") + name);
  }

  Status count() {
    constexpr uint64_t clock_check_interval = 256;
    if (++inodes_ > max_inodes_) {
      return fail(Kind::invalid, "relabel", "it has more than " + std::to_string(max_inodes_) + " files");
    }
    if (inodes_ % clock_check_interval == 0 && Clock::now() > end_) {
      return fail(Kind::timeout, "relabel", "it took too long");
    }
    return {};
  }

  const std::string& label_;
  uint64_t max_inodes_;
  Clock::time_point end_;
  uint64_t inodes_ = 0;
  uint64_t labelled_ = 0;
};

Result<Fd> open_top(const std::string& path, struct stat& info) {
  Fd top = open_resolved(AT_FDCWD, path.c_str(), O_PATH | O_NOFOLLOW, RESOLVE_NO_SYMLINKS);
  if (!top || ::fstat(top.get(), &info) != 0) return fail_errno("open");
  if (S_ISLNK(info.st_mode)) return fail_errno("open", ELOOP);
  return top;
}

}  // namespace

Result<bool> has_label(const std::string& path, const std::string& label) {
  struct stat info;
  const Fd top = TRY(open_top(path, info));
  return is_labelled(top, label);
}

Result<uint64_t> relabel_tree(const std::string& path, const std::string& label, uint64_t max_inodes,
                              uint64_t max_seconds) {
  struct stat info;
  const Fd top = TRY(open_top(path, info));
  if (is_labelled(top, label)) return 0;
  Relabel relabel(label, max_inodes, max_seconds);
  if (S_ISDIR(info.st_mode)) TRY(walk_tree(top.get(), relabel));
  TRY(relabel.label(top, "the top"));
  return relabel.labelled();
}

}  // namespace keelson
