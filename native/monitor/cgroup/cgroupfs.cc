// Source: proc_pid_mountinfo(5).
#include "monitor/cgroup/cgroupfs.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "common/fd.h"
#include "common/file.h"

namespace keelson {

namespace {

constexpr std::string_view v1_controllers[] = {
    "cpu",     "cpuacct",  "cpuset",     "memory",  "devices", "freezer", "blkio", "pids",
    "net_cls", "net_prio", "perf_event", "hugetlb", "rdma",    "misc",
};

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == text.npos) return parts;
    text.remove_prefix(end + 1);
  }
}

bool is_controller(std::string_view option) {
  return option.starts_with("name=") || std::ranges::find(v1_controllers, option) != std::end(v1_controllers);
}

bool is_octal(char c) { return c >= '0' && c <= '7'; }

// The kernel writes blank, tab, newline and backslash as three octal digits.
std::string unescaped(std::string_view path) {
  std::string plain;
  for (size_t at = 0; at < path.size(); ++at) {
    if (path[at] == '\\' && at + 3 < path.size() && is_octal(path[at + 1]) && is_octal(path[at + 2]) &&
        is_octal(path[at + 3])) {
      plain += static_cast<char>((path[at + 1] - '0') * 64 + (path[at + 2] - '0') * 8 + (path[at + 3] - '0'));
      at += 3;
    } else {
      plain += path[at];
    }
  }
  return plain;
}

}  // namespace

// Line by line: a node with many pods has a long file.
Result<CgroupHost> CgroupHost::read(const char* path) {
  std::unique_ptr<FILE, decltype(&fclose)> file(fopen(path, "re"), &fclose);
  if (!file) return fail_errno("open " + std::string(path));
  CgroupHost host;
  char* line = nullptr;
  size_t room = 0;
  for (ssize_t size = 0; (size = getline(&line, &room, file.get())) > 0;) {
    const std::string_view text(line, static_cast<size_t>(size));
    host.take(text.substr(0, text.find('\n')));
  }
  free(line);
  if (ferror(file.get())) return fail_errno("read " + std::string(path));
  if (host.v2_root_.empty() && host.v1_.empty()) {
    return fail(Kind::system, "find the cgroup hierarchies", "none is mounted on this host");
  }
  host.unified_only_ = host.v1_.empty();
  return host;
}

Result<CgroupHost> CgroupHost::detect() { return read("/proc/self/mountinfo"); }

// Of a hierarchy that is mounted several times the first whole mount counts; the daemon goes by the same rule
// (pod/cgroups.ts), and one test holds both to it.
void CgroupHost::take(std::string_view line) {
  if (line.find(" cgroup") == line.npos) return;
  const auto fields = split(line, ' ');
  // Any number of optional fields stands before the separator.
  const auto dash = fields.size() < 7 ? fields.end() : std::find(fields.begin() + 6, fields.end(), "-");
  if (fields.end() - dash < 4 || fields[3] != "/") return;
  const std::string_view type = dash[1];
  if (type == "cgroup2" && v2_root_.empty()) v2_root_ = unescaped(fields[4]);
  if (type != "cgroup") return;
  for (std::string_view option : split(dash[3], ',')) {
    if (is_controller(option) && v1_root(option).empty()) v1_.emplace_back(option, unescaped(fields[4]));
  }
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
