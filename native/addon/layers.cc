#include "addon/layers.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "addon/files.h"
#include "common/file.h"
#include "common/overlayfs.h"

namespace keelson {

namespace {

// fsconfig(2) takes values of at most 255 bytes.
constexpr size_t longest_value = 255;

std::string through_proc(const Fd& fd) { return "/proc/self/fd/" + std::to_string(fd.get()); }

Result<std::vector<Fd>> open_each(const std::vector<std::string>& layers) {
  std::vector<Fd> opened;
  for (const std::string& layer : layers) {
    Fd fd(::open(layer.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!fd) return fail_errno("open layer " + layer);
    opened.push_back(std::move(fd));
  }
  return opened;
}

Status configure(const Fd& context, const char* key, const std::string& value) {
  if (::fsconfig(context.get(), FSCONFIG_SET_STRING, key, value.c_str(), 0) == 0) return {};
  return fail_errno(std::string("set overlay option ") + key + "=" + value);
}

// Before Linux 6.7 all layers go into one value of 255 bytes. Names relative to /proc/self/fd
// are the shortest there are; they need a working directory, which a thread can have for itself.
Status set_joined(const Fd& context, const std::vector<Fd>& layers) {
  std::string joined;
  for (const Fd& layer : layers) joined += (joined.empty() ? "" : ":") + std::to_string(layer.get());
  if (joined.size() > longest_value) {
    return fail(Kind::invalid, "set overlay option lowerdir",
                std::to_string(layers.size()) + " layers are too many for a kernel before 6.7");
  }
  Status outcome;
  std::thread([&] {
    if (::unshare(CLONE_FS) != 0) {
      outcome = fail_errno("unshare the working directory");
    } else if (::chdir("/proc/self/fd") != 0) {
      outcome = fail_errno("enter /proc/self/fd");
    } else {
      outcome = configure(context, "lowerdir", joined);
    }
  }).join();
  return outcome;
}

Status set_layers(const Fd& context, const std::vector<Fd>& layers, LayerOption option) {
  if (option == LayerOption::joined || overlay_checks_options_late()) return set_joined(context, layers);
  for (const Fd& layer : layers) {
    Status added = configure(context, "lowerdir+", through_proc(layer));
    if (!added && added.error().error_number == EINVAL && &layer == &layers.front()) return set_joined(context, layers);
    if (!added) return added;
  }
  return {};
}

Result<Fd> mount_overlay(const std::vector<Fd>& layers, LayerOption option) {
  Fd context(::fsopen("overlay", FSOPEN_CLOEXEC));
  if (!context) return fail_errno("open an overlay context");
  TRY(set_layers(context, layers, option));
  // Hostile layers may carry overlay's own attributes: neither redirects nor metacopies are followed.
  TRY(configure(context, "redirect_dir", "nofollow"));
  TRY(configure(context, "metacopy", "off"));
  if (::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) return fail_errno("make the overlay");
  Fd mount(::fsmount(context.get(), FSMOUNT_CLOEXEC,
                     MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
  if (!mount) return fail_errno("mount the overlay");
  return mount;
}

Result<LayerFile> read_one(int root, const std::string& path, size_t limit) {
  Fd found = TRY(find_inside(root, path, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV));
  if (!found) return MissingFile{};
  struct stat info {};
  if (::fstat(found.get(), &info) != 0) return fail_errno("stat " + path);
  if (is_whiteout(info)) return MissingFile{};  // a whiteout in a lone layer
  if (!S_ISREG(info.st_mode)) return NotRegularFile{};
  if (static_cast<uint64_t>(info.st_size) > limit) return TooLargeFile{static_cast<uint64_t>(info.st_size)};
  Fd file = TRY(open_found(found, path));
  return TRY(read_to_end(file.get(), limit, path));
}

}  // namespace

Result<Fd> open_layers(const std::vector<std::string>& layers, LayerOption option) {
  if (layers.empty()) return fail(Kind::invalid, "open the layers", "there is none");
  std::vector<Fd> opened = TRY(open_each(layers));
  if (opened.size() == 1) return std::move(opened.front());
  return mount_overlay(opened, option);
}

Result<std::vector<LayerFile>> read_from_layers(const std::vector<std::string>& layers,
                                                const std::vector<std::string>& paths, size_t limit) {
  Fd root = TRY(open_layers(layers));
  std::vector<LayerFile> files;
  for (const std::string& path : paths) {
    files.push_back(TRY(read_one(root.get(), path, limit)));
  }
  return files;
}

}  // namespace keelson
