#include "addon/layers.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "addon/files.h"
#include "addon/own_thread.h"
#include "common/file.h"
#include "common/overlayfs.h"

namespace keelson {

namespace {

// Hostile layers may carry overlayfs's own attributes, so neither redirects nor metacopies are followed.
constexpr const char* page_options = "redirect_dir=nofollow,metacopy=off";

std::string through_proc(const Fd& fd) { return "/proc/self/fd/" + std::to_string(fd.get()); }

Result<Fd> open_layer(const std::string& layer) {
  Fd opened(::open(layer.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!opened) return fail_errno("open layer " + layer);
  return opened;
}

Result<std::vector<Fd>> open_each(const std::vector<std::string>& layers) {
  std::vector<Fd> opened;
  for (const std::string& layer : layers) opened.push_back(TRY(open_layer(layer)));
  return opened;
}

Status configure(const Fd& context, const char* key, const std::string& value) {
  if (::fsconfig(context.get(), FSCONFIG_SET_STRING, key, value.c_str(), 0) == 0) return {};
  return fail_errno(std::string("set overlay option ") + key + "=" + value);
}

// No Fd if the kernel does not support "lowerdir+", one layer at a time (Linux 6.7).
Result<Fd> mount_one_by_one(const std::vector<std::string>& layers) {
  const Fd context(::fsopen("overlay", FSOPEN_CLOEXEC));
  if (!context) return fail_errno("open an overlay context");
  if (overlay_checks_options_late(context.get())) return Fd();
  const std::vector<Fd> opened = TRY(open_each(layers));
  for (const Fd& layer : opened) {
    Status added = configure(context, "lowerdir+", through_proc(layer));
    if (!added && added.error().error_number == EINVAL && &layer == &opened.front()) return Fd();
    TRY(std::move(added));
  }
  TRY(configure(context, "redirect_dir", "nofollow"));
  TRY(configure(context, "metacopy", "off"));
  if (::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) return fail_errno("create the overlay");
  Fd mount(::fsmount(context.get(), FSMOUNT_CLOEXEC,
                     MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
  if (!mount) return fail_errno("mount the overlay");
  return mount;
}

// Mounts it over the top layer in a temporary mount namespace of the calling thread, where nobody else sees it.
Result<Fd> mount_and_take(const std::vector<std::string>& layers) {
  if (::unshare(CLONE_NEWNS) != 0) return fail_errno("unshare the mount namespace");
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return fail_errno("make all mounts private");
  const std::vector<Fd> opened = TRY(open_each(layers));
  const char* place = layers.front().c_str();
  constexpr unsigned long flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
  if (mount_overlay_with_page(opened, page_options, place, flags) != 0) return fail_errno("mount the overlay");
  Fd mount(::open_tree(AT_FDCWD, place, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  if (!mount) return fail_errno("clone the overlay mount");
  return mount;
}

// A thread can have its own mount namespace and working directory.
Result<Fd> mount_with_page(const std::vector<std::string>& layers) {
  Result<Fd> mount;
  TRY(in_own_thread([&] { mount = mount_and_take(layers); }));
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
  if (layers.empty()) return fail(Kind::invalid, "open the layers", "there are no layers");
  if (layers.size() == 1) return open_layer(layers.front());
  if (layers.size() > most_overlay_layers) {
    return fail(Kind::invalid, "open the layers",
                "there are " + std::to_string(layers.size()) + ", but overlayfs supports at most " +
                    std::to_string(most_overlay_layers));
  }
  if (option == LayerOption::automatic) {
    Fd mount = TRY(mount_one_by_one(layers));
    if (mount) return mount;
  }
  return mount_with_page(layers);
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
