#include "cni/ipam/lease_directory.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>

#include "common/file.h"
#include "common/tree.h"

namespace keelson {

namespace {

constexpr unsigned lock_limit_seconds = 20;
// A lease has an id and an interface's name; a longer file is not a lease.
constexpr size_t lease_limit = 4096;

Result<std::optional<Fd>> open_directory(const std::string& path) {
  Fd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory && errno == ENOENT) return std::nullopt;
  if (!directory) return fail_errno("open the directory " + path);
  return directory;
}

// flock(2) has no timeout: a signal handler without SA_RESTART interrupts it.
Status lock_exclusively(int fd, const std::string& path) {
  if (flock(fd, LOCK_EX | LOCK_NB) == 0) return {};
  struct sigaction interrupt{};
  interrupt.sa_handler = [](int) {};
  sigaction(SIGALRM, &interrupt, nullptr);
  alarm(lock_limit_seconds);
  int locked = flock(fd, LOCK_EX);
  int error = errno;
  alarm(0);
  if (locked == 0) return {};
  if (error == EINTR) return fail(Kind::busy, "lock " + path, "another process has held it for 20 seconds");
  return fail_errno("lock " + path, error);
}

void trim(std::string& text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.pop_back();
  text.erase(0, static_cast<size_t>(std::ranges::find_if_not(text, [](unsigned char c) { return std::isspace(c); }) -
                                    text.begin()));
}

Lease parse_lease(std::string file_name, std::string content) {
  trim(content);
  size_t line_end = content.find("\r\n");
  if (line_end == std::string::npos) return {std::move(file_name), std::move(content), {}};
  return {std::move(file_name), content.substr(0, line_end), content.substr(line_end + 2)};
}

std::optional<std::string> read_at(int directory, const char* name) {
  Fd file(openat(directory, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW));
  if (!file) return std::nullopt;
  Result<std::string> content = read_to_end(file.get(), lease_limit, name);
  if (!content) return std::nullopt;
  return std::move(*content);
}

Status write_content(int fd, std::string_view content) {
  return write_all(fd, {reinterpret_cast<const uint8_t*>(content.data()), content.size()}, "write a lease");
}

// For file systems without O_TMPFILE.
Status create_at(int directory, const std::string& name, std::string_view content) {
  Fd file(openat(directory, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file) return fail_errno("create " + name);
  return write_content(file.get(), content);
}

// Overwrites and then truncates: ext4 flushes a file that was first truncated to zero at close, which takes a millisecond
// or two. A crash in between leaves a wrong address, which only affects where the next search starts.
Status overwrite_at(int directory, const std::string& name, std::string_view content) {
  Fd file(openat(directory, name.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file) return fail_errno("create " + name);
  TRY(write_content(file.get(), content));
  if (ftruncate(file.get(), static_cast<off_t>(content.size())) != 0) return fail_errno("truncate " + name);
  return {};
}

// The file appears under its name only with its complete content.
Status link_whole(int directory, const std::string& name, std::string_view content) {
  Fd file(openat(directory, ".", O_WRONLY | O_TMPFILE | O_CLOEXEC, 0600));
  if (!file && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT)) {
    return create_at(directory, name, content);
  }
  if (!file) return fail_errno("create a lease");
  TRY(write_content(file.get(), content));
  std::string self = "/proc/self/fd/" + std::to_string(file.get());
  if (linkat(AT_FDCWD, self.c_str(), directory, name.c_str(), AT_SYMLINK_FOLLOW) != 0) {
    return fail_errno("create " + name);
  }
  return {};
}

}  // namespace

bool Lease::belongs_to(const Invocation& invocation) const {
  return container_id == invocation.container_id &&
         (interface_name.empty() || interface_name == invocation.interface_name);
}

Result<LeaseDirectory> LeaseDirectory::open(const std::string& path) {
  std::optional<Fd> directory = TRY(open_directory(path));
  if (!directory) {
    TRY(make_directories(path, 0755));
    directory = TRY(open_directory(path));
  }
  if (!directory) return fail_errno("open the directory " + path, ENOENT);
  return lock_and_read(path, std::move(*directory));
}

Result<std::optional<LeaseDirectory>> LeaseDirectory::open_existing(const std::string& path) {
  std::optional<Fd> directory = TRY(open_directory(path));
  if (!directory) return std::nullopt;
  return TRY(lock_and_read(path, std::move(*directory)));
}

Result<LeaseDirectory> LeaseDirectory::lock_and_read(const std::string& path, Fd directory) {
  Fd lock(openat(directory.get(), "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!lock) return fail_errno("open " + path + "/lock");
  TRY(lock_exclusively(lock.get(), path + "/lock"));
  LeaseDirectory leases(path, std::move(directory), std::move(lock));
  TRY(leases.read_all());
  return leases;
}

Status LeaseDirectory::read_all() {
  return each_entry(directory_.get(), path_, [&](const dirent64& entry) -> Result<bool> {
    std::string name = entry.d_name;
    // Skips the lock and the files of last addresses.
    if (!parse_address(name)) return true;
    std::optional<std::string> content = read_at(directory_.get(), name.c_str());
    file_names_.push_back(name);
    if (content) leases_.push_back(parse_lease(std::move(name), std::move(*content)));
    return true;
  });
}

bool LeaseDirectory::has_file(const std::string& name) const {
  return std::ranges::find(file_names_, name) != file_names_.end();
}

IpAddress LeaseDirectory::last_reserved(size_t range_set) const {
  std::string name = "last_reserved_ip." + std::to_string(range_set);
  std::optional<std::string> content = read_at(directory_.get(), name.c_str());
  return content ? parse_address(*content).value_or(IpAddress()) : IpAddress();
}

Result<bool> LeaseDirectory::reserve(const IpAddress& address, const Invocation& owner, size_t range_set) {
  std::string name = to_string(address);
  if (has_file(name)) return false;
  Status linked = link_whole(directory_.get(), name, owner.container_id + "\r\n" + owner.interface_name);
  if (!linked && linked.error().error_number == EEXIST) return false;
  TRY(linked);
  leases_.push_back({name, owner.container_id, owner.interface_name});
  file_names_.push_back(name);
  TRY(overwrite_at(directory_.get(), "last_reserved_ip." + std::to_string(range_set), name));
  return true;
}

Status LeaseDirectory::release(const Lease& lease) {
  if (unlinkat(directory_.get(), lease.file_name.c_str(), 0) == 0 || errno == ENOENT) return {};
  return fail_errno("remove the lease " + path_ + "/" + lease.file_name);
}

}  // namespace keelson
