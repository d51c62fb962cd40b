#include "common/overlayfs.h"

#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "common/fd.h"

namespace keelson {

namespace {

constexpr const char* opaque_attribute = "trusted.overlay.opaque";

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

bool overlay_checks_options_late() {
  const Fd context(::fsopen("overlay", FSOPEN_CLOEXEC));
  return context && ::fsconfig(context.get(), FSCONFIG_SET_STRING, "no_such_option", "", 0) == 0;
}

}  // namespace keelson
