#include "monitor/cgroup/files.h"

#include <dirent.h>
#include <fcntl.h>

#include <cstdlib>
#include <memory>

#include "common/fd.h"
#include "common/file.h"

namespace keelson {

namespace {

constexpr size_t max_size = 4 << 20;  // a cgroup.procs of half a million processes

struct Old {
  const std::string* file;
  std::string value;
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

Status write_cgroup_file(const std::string& path, std::string_view value) {
  Fd file(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file) return fail_errno("open " + path);
  if (write(file.get(), value.data(), value.size()) < 0) {
    return fail_errno("write \"" + std::string(value) + "\" to " + path);
  }
  return {};
}

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
  for (const Write& write : writes_) {
    Result<std::string> before = read_cgroup_file(write.file);
    Status written = write_cgroup_file(write.file, write.value);
    if (written) {
      // A file that cannot be read (devices.allow) has no value to go back to.
      if (before) done.push_back({&write.file, std::move(*before)});
      continue;
    }
    if (write.optional && written.error().error_number == ENOENT) continue;
    take_back(done);
    return written;
  }
  return {};
}

}  // namespace keelson
