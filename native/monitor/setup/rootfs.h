// The container's root: an overlay of the image's layers, mounted in the mount namespace of the calling child; what of
// it is hidden or read-only; and the change into it.
#pragma once

#include <string>
#include <vector>

#include "monitor/setup/child.h"
#include "monitor/setup/spec.h"

namespace keelson {

// An overlay, or the one layer of what needs none.
struct OverlayPlan {
  std::vector<std::string> lower;  // top first
  std::string upper, work;         // empty: read-only
  std::string mountpoint;          // on the host
  std::string label;               // SELinux's, of all that is in it; empty: the layers' own
  std::string page_options;        // for mount(2), where the kernel lacks "lowerdir+": all but the layers
  // Where the layers are mounted with their owners mapped: names in the scratch directory, and paths.
  std::vector<std::string> mapped_names, mapped_lower;
};

struct ImagePlan {
  OverlayPlan view;
  std::string sub_path;
  Fd tree;  // in the child: detached
};

struct RootfsPlan {
  OverlayPlan root;
  std::vector<ImagePlan> images;
  std::vector<std::string> directories;
};

// `label` is of all that is mounted.
RootfsPlan plan_rootfs(const RootfsSpec& spec, std::string_view bundle, const std::string& label);

// Makes it, attached nowhere; no Fd where the kernel lacks "lowerdir+" (Linux 6.7).
Fd detached_rootfs(const Child& child, const OverlayPlan& plan);
// Mounts it and returns a descriptor of its root.
Fd mount_rootfs(const Child& child, const OverlayPlan& plan);
// The same for kernels that lack "lowerdir+".
Fd mount_rootfs_with_page(const Child& child, const OverlayPlan& plan);

// Puts a detached mount on the directory `mountpoint`, which must be no link.
void attach_at(const Child& child, int mount, const std::string& mountpoint);

// The declared volumes of an image: made where nothing is. What is there, of whatever kind, stays.
void make_directories(const Child& child, int root, const std::vector<std::string>& paths);

// Has those of them that are directories stay writable when the root's own mount becomes read-only: each becomes a
// mount of itself, so that what is written there is still the writable layer's.
void keep_writable(const Child& child, int root, const std::vector<std::string>& paths);

// Makes the trees of all images, once cut off from the host. With a user namespace the scratch directory is needed.
void make_image_views(const Child& child, std::vector<ImagePlan>& images, int scratch, int user_namespace);

// For a container in a user namespace, whose root may neither mount an overlay of ours nor own its layers:
// the host's root does it, in a mount namespace to be left. First a scratch directory, a tmpfs on the
// mountpoint that becomes the working directory (which a copy of the mount namespace takes along) ...
Fd mount_scratch(const Child& child, const OverlayPlan& plan);
// ... then the overlay of mapped layers, attached nowhere ...
Fd make_mapped_overlay(const Child& child, const OverlayPlan& plan, int scratch, int user_namespace);
// ... and inside, in the copy, it is put over the scratch directory.
void attach_mapped_rootfs(const Child& child, int root);

// After a start that failed: takes away overlay's mark that these directories were mounted
// "volatile", so that the start can be tried again on them.
void forget_failed_mount(const RootfsSpec& spec);

// Makes the mounted root the process's "/" and lets go of the host's tree.
void pivot_to(const Child& child, int root);

// Hide parts of /proc and /sys, and make others read-only. A path that does not exist is no harm and is passed over.
// `label` is of the empty directories that hide.
void mask_paths(const Child& child, int root, const std::vector<std::string>& paths, const std::string& label);
void make_paths_readonly(const Child& child, int root, const std::vector<std::string>& paths);

}  // namespace keelson
