#include "addon/files.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file.h"

namespace keelson {

namespace {

std::optional<std::string> read_regular_file(const std::string& path, size_t limit) {
  // O_NONBLOCK: a FIFO in place of a file must not block the thread.
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  struct stat info {};
  if (!fd || ::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) return std::nullopt;
  Result<std::string> content = read_to_end(fd.get(), limit, path);
  if (!content) return std::nullopt;
  return std::move(*content);
}

}  // namespace

FileContents read_files(const std::vector<std::string>& paths, size_t limit) {
  FileContents contents;
  contents.reserve(paths.size());
  for (const std::string& path : paths) contents.push_back(read_regular_file(path, limit));
  return contents;
}

Result<Fd> open_inside(const std::string& directory, const std::string& name) {
  if (name.find('\0') != name.npos) return Fd();
  Fd root(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root) return fail_errno("open");
  Fd found = TRY(find_inside(root.get(), name, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS));
  struct stat info {};
  if (found && ::fstat(found.get(), &info) != 0) return fail_errno("stat " + name);
  if (!S_ISREG(info.st_mode)) return Fd();
  return open_found(found, name);
}

Result<Fd> find_inside(int root, const std::string& path, uint64_t resolve) {
  Fd found = open_resolved(root, path.c_str(), O_PATH, resolve);
  if (found) return found;
  switch (errno) {
    case ENOENT: case ENOTDIR: case ELOOP: case EXDEV: case ENAMETOOLONG: return Fd();
    default: return fail_errno("open " + path.substr(0, 200));
  }
}

Result<Fd> open_found(const Fd& found, const std::string& name) {
  const std::string path = "/proc/self/fd/" + std::to_string(found.get());
  Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  if (!file) return fail_errno("open " + name);
  return file;
}

Status sync_file_system(int descriptor) {
  if (::syncfs(descriptor) == 0) return {};
  return about(fail_errno("flush its file system"), "descriptor " + std::to_string(descriptor));
}

Result<Fd> try_lock(const std::string& path) {
  Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600));
  if (!fd) return fail_errno("open the lock file");
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  if (errno == EWOULDBLOCK) return Fd();
  return fail_errno("lock");
}

}  // namespace keelson
