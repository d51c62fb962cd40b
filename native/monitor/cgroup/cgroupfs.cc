#include "monitor/cgroup/cgroupfs.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <ranges>

#include "common/fd.h"
#include "common/file.h"
#include "common/tree.h"

namespace keelson {

Result<CgroupHost> CgroupHost::parse(const Json& hierarchies) {
  CgroupHost host;
  host.v2_root_ = hierarchies["v2"].string();
  for (const auto& [controller, mount_point] : hierarchies["v1"].members()) {
    host.v1_.emplace_back(controller, mount_point.string());
  }
  const bool is_absolute = std::ranges::all_of(host.v1_, [](const auto& one) { return one.second.starts_with('/'); });
  if (!is_absolute || (!host.v2_root_.empty() && host.v2_root_[0] != '/')) {
    return fail(Kind::invalid, "read the cgroup hierarchies", "a path is not absolute");
  }
  if (host.v2_root_.empty() && host.v1_.empty()) {
    return fail(Kind::invalid, "read the cgroup hierarchies", "the host has none");
  }
  host.unified_only_ = host.v1_.empty();
  return host;
}

std::vector<std::string> CgroupHost::v1_roots() const {
  std::vector<std::string> roots;
  for (const auto& [controller, mount_point] : v1_) {
    if (std::ranges::find(roots, mount_point) == roots.end()) roots.push_back(mount_point);
  }
  return roots;
}

std::string CgroupHost::v1_root(std::string_view controller) const {
  for (const auto& [name, mount_point] : v1_) {
    if (name == controller) return mount_point;
  }
  return "";
}

namespace {

struct Old {
  const std::string* file;
  const std::string* written;
  std::string value;
};

// Keeps the file open for the next write: consecutive writes often go to the same file (devices.allow). Writes one line
// at a time, because of several lines in one write the kernel takes only the first, or none.
class OpenFile {
 public:
  Status write(const std::string& path, std::string_view value) {
    if (path != path_) {
      fd_ = TRY(open_file(path, O_WRONLY));
      path_ = path;
    }
    for (const auto part : std::views::split(value, '\n')) {
      const std::string_view line(part);
      if (line.empty() || ::write(fd_.get(), line.data(), line.size()) >= 0) continue;
      return fail_errno("write \"" + std::string(line) + "\" to " + path);
    }
    return {};
  }

 private:
  std::string path_;
  Fd fd_;
};

// Whether the error is about the value and not about the kernel's state. EACCES: on v1, a CPU that the parent cgroup
// does not have. ENODEV: in io.max, a disk that does not exist. EOVERFLOW: in a cpuset, a number of more than 32 bits.
bool blames_value(int error) {
  return error == EINVAL || error == ERANGE || error == EOVERFLOW || error == EACCES || error == ENODEV;
}

// "No limits" for each disk named in the lines of an io.max: the file has no line for a disk without limits.
std::string no_limits_of(std::string_view lines) {
  std::string text;
  for (const auto part : std::views::split(lines, '\n')) {
    const std::string_view line(part);
    if (!line.empty()) text.append(line.substr(0, line.find(' '))).append(" rbps=max wbps=max riops=max wiops=max\n");
  }
  return text;
}

void undo(const std::vector<Old>& done) {
  OpenFile file;
  for (auto old = done.rbegin(); old != done.rend(); ++old) {
    // Best effort: the reported error is the one that stopped the writes.
    if (old->file->ends_with("/io.max")) static_cast<void>(file.write(*old->file, no_limits_of(*old->written)));
    static_cast<void>(file.write(*old->file, old->value));
  }
}

}  // namespace

Result<std::string> read_cgroup_file(const std::string& path) {
  std::string text = TRY(read_file(path, max_cgroup_file));
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

int64_t read_cgroup_number(const std::string& path) {
  const Result<std::string> text = read_cgroup_file(path);
  return text ? strtoll(text->c_str(), nullptr, 10) : -1;
}

Status write_cgroup_file(const std::string& path, std::string_view value) { return OpenFile().write(path, value); }

namespace {

class Visit final : public TreeVisitor {
 public:
  explicit Visit(const std::function<Status(int, const std::string&)>& visit) : visit_(visit) {}
  Result<bool> entry(int parent, const char* name, unsigned char type) override {
    if (type != DT_DIR) return false;
    TRY(visit_(parent, name));
    return true;
  }

 private:
  const std::function<Status(int, const std::string&)>& visit_;
};

// Fails with EBUSY at a cgroup that has no child cgroups left but still contains a process.
class Remove final : public TreeVisitor {
 public:
  Result<bool> entry(int parent, const char* name, unsigned char type) override {
    if (type != DT_DIR) return false;
    Status removed = leave(parent, name);
    if (!removed && removed.error().error_number == EBUSY) return true;
    TRY(std::move(removed));
    return false;
  }

  Status leave(int parent, const char* name) override {
    if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT) return {};
    return fail_errno(std::string("remove the cgroup ") + name);
  }

  bool removes() const override { return true; }
};

Fd open_cgroup(const std::string& directory) { return Fd(open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)); }

// The cgroup may be removed at any moment.
Status unless_gone(Status status) {
  return !status && status.error().error_number == ENOENT ? Status{} : std::move(status);
}

}  // namespace

Status each_cgroup(const std::string& directory, const std::function<Status(int, const std::string&)>& visit) {
  TRY(visit(AT_FDCWD, directory));
  const Fd top = open_cgroup(directory);
  if (!top) return unless_gone(fail_errno("open the cgroup " + directory));
  Visit visitor(visit);
  return unless_gone(walk_tree(top.get(), visitor));
}

Result<bool> remove_cgroups(const std::string& directory) {
  Remove remover;
  if (!TRY(remover.entry(AT_FDCWD, directory.c_str(), DT_DIR))) return true;
  const Fd top = open_cgroup(directory);
  if (!top && errno == ENOENT) return true;
  if (!top) return fail_errno("open the cgroup " + directory);
  Status removed = walk_tree(top.get(), remover);
  if (removed) removed = remover.leave(AT_FDCWD, directory.c_str());
  if (removed) return true;
  const int error = removed.error().error_number;
  if (error == EBUSY || error == ENOENT) return false;
  return std::unexpected(std::move(removed.error()));
}

namespace {

// The value to restore on undo. An empty cpuset.cpus or cpuset.mems cannot be restored while the cgroup has processes
// (cpuset.c), so its effective value is used.
Result<std::string> value_of(const std::string& file) {
  Result<std::string> value = read_cgroup_file(file);
  if (!value || !value->empty()) return value;
  Result<std::string> effective = read_cgroup_file(file + ".effective");
  return effective ? std::move(effective) : std::move(value);
}

}  // namespace

Status CgroupWrites::commit() const {
  std::vector<Old> done;
  OpenFile file;
  for (const Write& write : writes_) {
    Result<std::string> before = write.form == Form::order ? "" : value_of(write.file);
    Status written = file.write(write.file, write.value);
    // With several lines, the first ones may have been accepted.
    const bool may_have_changed = written || write.value.contains('\n');
    if (before && may_have_changed && write.form != Form::order) {
      done.push_back({&write.file, &write.value, std::move(*before)});
    }
    if (written) continue;
    if (write.form == Form::optional_setting && written.error().error_number == ENOENT) continue;
    undo(done);
    if (write.form != Form::order && blames_value(written.error().error_number)) written.error().kind = Kind::invalid;
    return written;
  }
  return {};
}

}  // namespace keelson
