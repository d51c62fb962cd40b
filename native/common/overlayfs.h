// overlayfs's own form of what a layer hides (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque
// directories").
#pragma once

#include <sys/stat.h>

#include "common/error.h"

namespace keelson {

// A whiteout, a character device 0:0, hides its name in the layers below.
bool is_whiteout(const struct stat& status);
// An opaque directory hides all that the layers below have in it.
bool is_opaque(int directory);
Status make_opaque(int directory);

// Before Linux 6.5 a context of overlay takes options that it does not know, "lowerdir+" too, and fails when it mounts.
bool overlay_checks_options_late();

}  // namespace keelson
