#include "monitor/cgroup/cgroupfs.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "common/fd.h"
#include "common/file.h"

namespace keelson {

Result<CgroupHost> CgroupHost::parse(const Json& hierarchies) {
  CgroupHost host;
  host.v2_root_ = hierarchies["v2"].string();
  for (const auto& [controller, mount_point] : hierarchies["v1"].members()) {
    host.v1_.emplace_back(controller, mount_point.string());
  }
  const bool is_absolute = std::ranges::all_of(host.v1_, [](const auto& one) { return one.second.starts_with('/'); });
  if (!is_absolute || (!host.v2_root_.empty() && host.v2_root_[0] != '/')) {
    return fail(Kind::invalid, "read the cgroup hierarchies", "they are no absolute paths");
  }
  if (host.v2_root_.empty() && host.v1_.empty()) {
    return fail(Kind::invalid, "read the cgroup hierarchies", "there is none");
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

constexpr size_t max_size = 4 << 20;  // a cgroup.procs of half a million processes

struct Old {
  const std::string* file;
  std::string value;
};

// Stays open for the next write: orders come in rows, for one file each.
class OpenFile {
 public:
  Status write(const std::string& path, std::string_view value) {
    if (path != path_) {
      fd_ = TRY(open_file(path, O_WRONLY));
      path_ = path;
    }
    if (::write(fd_.get(), value.data(), value.size()) >= 0) return {};
    return fail_errno("write \"" + std::string(value) + "\" to " + path);
  }

 private:
  std::string path_;
  Fd fd_;
};

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};

void take_back(const std::vector<Old>& done) {
  for (auto old = done.rbegin(); old != done.rend(); ++old) {
    // Best effort: the error that is reported is the one that stopped the writes.
    static_cast<void>(write_cgroup_file(*old->file, old->value));
  }
}

}  // namespace

Result<std::string> read_cgroup_file(const std::string& path) {
  std::string text = TRY(read_file(path, max_size));
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

int64_t read_cgroup_number(const std::string& path) {
  const Result<std::string> text = read_cgroup_file(path);
  return text ? strtoll(text->c_str(), nullptr, 10) : -1;
}

Status write_cgroup_file(const std::string& path, std::string_view value) { return OpenFile().write(path, value); }

Result<std::vector<std::string>> child_cgroups(const std::string& directory) {
  std::vector<std::string> children;
  std::unique_ptr<DIR, CloseDirectory> listing(opendir(directory.c_str()));
  if (!listing && errno == ENOENT) return children;
  if (!listing) return fail_errno("list the cgroup " + directory);
  while (const dirent* entry = readdir(listing.get())) {
    const std::string_view name = entry->d_name;
    if (entry->d_type == DT_DIR && name != "." && name != "..") children.push_back(directory + "/" + entry->d_name);
  }
  return children;
}

Status CgroupWrites::commit() const {
  std::vector<Old> done;
  OpenFile file;
  for (const Write& write : writes_) {
    Result<std::string> before = write.form == Form::order ? "" : read_cgroup_file(write.file);
    Status written = file.write(write.file, write.value);
    if (written) {
      if (before && write.form != Form::order) done.push_back({&write.file, std::move(*before)});
      continue;
    }
    if (write.form == Form::optional_setting && written.error().error_number == ENOENT) continue;
    take_back(done);
    return written;
  }
  return {};
}

}  // namespace keelson
