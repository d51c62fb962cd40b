// overlayfs's own form of what a layer hides (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque
// directories").
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <span>

#include "common/error.h"
#include "common/fd.h"

namespace keelson {

// A whiteout, a character device 0:0, hides its name in the layers below.
bool is_whiteout(const struct stat& status);
// An opaque directory hides all that the layers below have in it.
bool is_opaque(int directory);
Status make_opaque(int directory);
// Of a directory that no other layer has, overlayfs lists whiteouts too, as names that lead nowhere, unless the directory
// looks copied up: such may have them.
Status tell_of_whiteouts(int directory);

// Before Linux 6.5 a context of overlay takes options that it does not know, "lowerdir+" too, and fails when it mounts.
// Asks `context` itself, which stays as it was elsewhere: another one would cost a grace period of RCU at its close.
bool overlay_checks_options_late(int context);

// As many layers as overlayfs takes (OVL_MAX_STACK).
constexpr size_t most_overlay_layers = 500;

// For kernels before 6.7, which do not take layers one by one: mounts the open directories `layers`, top first, on
// `mountpoint` by mount(2), with MS_* in `flags` and more options, or "". All options must fit into one page there, so
// layers are named by the numbers of their descriptors, which are relative to a working directory of /proc/self/fd;
// "/" is the caller's afterwards. Allocates nothing. -1 and errno on failure: E2BIG when the options do not fit.
int mount_overlay_with_page(std::span<const Fd> layers, const char* more_options, const char* mountpoint,
                            unsigned long flags);

}  // namespace keelson
