#include "common/overlayfs.h"

#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace keelson {

namespace {

constexpr const char* opaque_attribute = "trusted.overlay.opaque";

// mount(2) reads one page; no architecture has smaller ones.
constexpr size_t option_page = 4096;

// Returns false when the options do not fit.
bool write_options(char (&page)[option_page], std::span<const Fd> layers, const char* more_options) {
  size_t size = strlen(strcpy(page, "lowerdir"));
  auto add = [&](const char* format, auto... values) {
    size += static_cast<size_t>(snprintf(page + size, option_page - size, format, values...));
    return size < option_page;
  };
  for (const Fd& layer : layers) {
    if (!add(&layer == layers.data() ? "=%d" : ":%d", layer.get())) return false;
  }
  return more_options[0] == '\0' || add(",%s", more_options);
}

}  // namespace

bool is_whiteout(const struct stat& status) { return S_ISCHR(status.st_mode) && status.st_rdev == makedev(0, 0); }

bool is_opaque(int directory) {
  char value[4] = {};
  return ::fgetxattr(directory, opaque_attribute, value, sizeof value) > 0 && value[0] == 'y';
}

Status make_opaque(int directory) {
  if (::fsetxattr(directory, opaque_attribute, "y", 1, 0) != 0) return fail_errno("make the directory opaque");
  return {};
}

Status mark_has_whiteouts(int directory) {
  if (::fsetxattr(directory, "trusted.overlay.origin", "", 0, 0) != 0) return fail_errno("mark the whiteout's directory");
  return {};
}

bool overlay_checks_options_late(int context) {
  return ::fsconfig(context, FSCONFIG_SET_STRING, "no_such_option", "", 0) == 0;
}

int mount_overlay_with_page(std::span<const Fd> layers, const char* more_options, const char* mountpoint,
                            unsigned long flags) {
  char page[option_page];
  if (!write_options(page, layers, more_options)) {
    errno = E2BIG;
    return -1;
  }
  if (chdir("/proc/self/fd") != 0) return -1;
  const int mounted = mount("overlay", mountpoint, "overlay", flags, page);
  const int error = errno;
  if (chdir("/") != 0) return -1;
  errno = error;
  return mounted;
}

}  // namespace keelson
