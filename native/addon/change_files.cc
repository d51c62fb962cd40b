#include "addon/change_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

#include "common/fd.h"
#include "common/file.h"

namespace keelson {

namespace {

struct TakeStep {
  Status operator()(const MakeDirectory& step) const {
    if (::mkdir(step.path.c_str(), step.mode) == 0) return {};
    if (errno == EEXIST && step.may_exist) return {};
    return fail_errno("mkdir");
  }

  Status operator()(const MakeDirectoryLike& step) const {
    struct stat like {};
    if (::stat(step.like.c_str(), &like) != 0) return about(fail_errno("stat"), step.like);
    if (::mkdir(step.path.c_str(), 0700) != 0) return fail_errno("mkdir");
    if (::chown(step.path.c_str(), step.owner.uid + like.st_uid, step.owner.gid + like.st_gid) != 0) {
      return fail_errno("chown");
    }
    if (::chmod(step.path.c_str(), like.st_mode & 07777) != 0) return fail_errno("chmod");
    return {};
  }

  Status operator()(const WriteFile& step) const {
    const int how = step.is_added ? O_APPEND : O_CREAT | (step.is_new ? O_EXCL : O_TRUNC);
    Fd file(::open(step.path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY | how, step.mode));
    if (!file) return fail_errno("open");
    TRY(write_all(file.get(), {reinterpret_cast<const uint8_t*>(step.content.data()), step.content.size()}, "write"));
    if (step.is_mode_exact && ::fchmod(file.get(), step.mode) != 0) return fail_errno("chmod");
    const bool has_owner = step.owner.uid != 0 || step.owner.gid != 0;
    if (has_owner && ::fchown(file.get(), step.owner.uid, step.owner.gid) != 0) return fail_errno("chown");
    if (step.is_flushed && ::fdatasync(file.get()) != 0) return fail_errno("fdatasync");
    if (::close(file.release()) != 0) return fail_errno("close");
    return {};
  }

  Status operator()(const RenameFile& step) const {
    return ::rename(step.path.c_str(), step.to.c_str()) == 0 ? Status{} : fail_errno("rename");
  }

  Status operator()(const RemoveFile& step) const {
    return ::unlink(step.path.c_str()) == 0 || errno == ENOENT ? Status{} : fail_errno("unlink");
  }

  Status operator()(const Flush& step) const {
    Fd file(::open(step.path.c_str(), O_RDONLY | O_NOCTTY | O_CLOEXEC));
    if (!file) return fail_errno("open");
    return ::fsync(file.get()) == 0 ? Status{} : fail_errno("fsync");
  }
};

}  // namespace

Status change_files(const std::vector<FileStep>& steps) {
  for (const FileStep& step : steps) {
    TRY(about(std::visit(TakeStep{}, step), std::visit([](const auto& any) -> std::string_view { return any.path; }, step)));
  }
  return {};
}

}  // namespace keelson
