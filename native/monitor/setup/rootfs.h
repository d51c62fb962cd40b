// The container's root: an overlay of the image's layers, mounted in the mount namespace of the calling child; its
// masked and read-only paths; and pivoting into it.
#pragma once

#include <string>
#include <vector>

#include "monitor/setup/child.h"
#include "monitor/setup/spec.h"

namespace keelson {

// An overlay, or a single layer that needs none.
struct OverlayPlan {
  std::vector<std::string> lower;  // top first
  std::string upper, work;         // empty: read-only
  std::string mountpoint;          // on the host
  std::string label;               // SELinux label of everything in it; empty: the layers' own
  std::string page_options;        // for mount(2) if the kernel lacks "lowerdir+": all options except the layers
  // Where the idmapped layers are mounted: names in the scratch directory, and their paths.
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

// `label` applies to everything that is mounted.
RootfsPlan plan_rootfs(const RootfsSpec& spec, std::string_view bundle, const std::string& label);

// Creates it detached; no Fd if the kernel lacks "lowerdir+" (Linux 6.7).
Fd detached_rootfs(const Child& child, const OverlayPlan& plan);
// Mounts it and returns a descriptor of its root.
Fd mount_rootfs(const Child& child, const OverlayPlan& plan);
// The same for kernels that lack "lowerdir+".
Fd mount_rootfs_with_page(const Child& child, const OverlayPlan& plan);

// Attaches a detached mount to the directory `mountpoint`, which must not be a link.
void attach_at(const Child& child, int mount, const std::string& mountpoint);

// Creates the declared volumes of an image unless something, of any type, exists there.
void make_directories(const Child& child, int root, const std::vector<std::string>& paths);

// Keeps those of them that are directories writable when the root's own mount becomes read-only: each is bind mounted
// onto itself, so that writes still go to the writable layer.
void keep_writable(const Child& child, int root, const std::vector<std::string>& paths);

// Creates the trees of all images, after detach_from_host(). A user namespace needs the scratch directory.
void make_image_views(const Child& child, std::vector<ImagePlan>& images, int scratch, int user_namespace);

// For a container in a user namespace, whose root can neither mount this overlay nor own its layers: the host's root
// does it, in a temporary mount namespace. First a scratch directory, a tmpfs on the mountpoint that becomes the
// working directory (and stays it in a copy of the mount namespace) ...
Fd mount_scratch(const Child& child, const OverlayPlan& plan);
// ... then the overlay of idmapped layers, detached ...
Fd make_mapped_overlay(const Child& child, const OverlayPlan& plan, int scratch, int user_namespace);
// ... and in the copy it is mounted over the scratch directory.
void attach_mapped_rootfs(const Child& child, int root);

// After a failed start: removes overlayfs's mark that these directories were mounted "volatile", so that the start can
// be retried on them.
void forget_failed_mount(const RootfsSpec& spec);

// Makes the mounted root the process's "/" and detaches the host's tree.
void pivot_to(const Child& child, int root);

// Hide parts of /proc and /sys, and make others read-only. A path that does not exist is skipped.
// `label` applies to the empty directories mounted over hidden ones.
void mask_paths(const Child& child, int root, const std::vector<std::string>& paths, const std::string& label);
void make_paths_readonly(const Child& child, int root, const std::vector<std::string>& paths);

}  // namespace keelson
