// overlayfs: whiteouts and opaque directories, by which a layer hides files of the layers below
// (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories"), and mounting many layers.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <span>

#include "common/error.h"
#include "common/fd.h"

namespace keelson {

// A whiteout, a character device 0:0, hides its name in the layers below.
bool is_whiteout(const struct stat& status);
// An opaque directory hides everything that the layers below have in it.
bool is_opaque(int directory);
Status make_opaque(int directory);
// Marks a directory that has whiteouts. If no other layer has the directory, overlayfs would list the whiteouts in it as
// names that cannot be opened, unless the directory looks copied up.
Status mark_has_whiteouts(int directory);

// Before Linux 6.5 an overlay context accepts options that it does not know, such as "lowerdir+", and fails only at the
// mount. Tests `context` itself: closing another context would cost an RCU grace period. On newer kernels the test leaves
// it unchanged.
bool overlay_checks_options_late(int context);

// The most layers that overlayfs supports (OVL_MAX_STACK).
constexpr size_t most_overlay_layers = 500;

// For kernels before 6.7, which do not support "lowerdir+": mounts the open directories `layers`, top first, on
// `mountpoint` with mount(2), with MS_* in `flags` and further options, or "". mount(2) takes one page of options, so
// layers are named by their descriptor numbers, relative to the working directory /proc/self/fd; afterwards the working
// directory is "/". Does not allocate. Returns -1 with errno set on failure: E2BIG when the options do not fit.
int mount_overlay_with_page(std::span<const Fd> layers, const char* more_options, const char* mountpoint,
                            unsigned long flags);

}  // namespace keelson
