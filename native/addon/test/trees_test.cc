// Measuring and removing whole trees (common/tree.h), and the lazy unmount.

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "addon/kernel.h"
#include "addon/test/claims.h"
#include "common/fd.h"
#include "common/tree.h"

namespace keelson {

namespace {

// A chain of directories far deeper than PATH_MAX and than the descriptor limit set in main.
void make_deep_tree(const std::string& path, int depth) {
  make_directory(path);
  Fd at(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (int i = 0; i < depth; ++i) {
    CLAIM(::mkdirat(at.get(), "a-level-of-the-deep-tree", 0755) == 0);
    Fd below(::openat(at.get(), "a-level-of-the-deep-tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    CLAIM(static_cast<bool>(below));
    at = std::move(below);
  }
  Fd leaf(::openat(at.get(), "leaf", O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  CLAIM(static_cast<bool>(leaf));
}

void deep_trees_take_no_descriptors(const std::string& base) {
  make_deep_tree(base + "/deep", 3000);
  Result<TreeUse> use = disk_usage(base + "/deep", 100000);
  CLAIM_OK(use);
  CLAIM(use->inodes == 3002);
  Result<TreeUse> bounded = disk_usage(base + "/deep", 1000);
  CLAIM(bounded && bounded->inodes == 1000);
  CLAIM_OK(remove_tree(base + "/deep"));
  CLAIM(!exists(base + "/deep"));
}

// More directories that hold something than a walk remembers at once.
void wide_trees_are_listed_in_parts(const std::string& base) {
  const std::string wide = base + "/wide";
  make_directory(wide);
  constexpr int directories = 3800;
  for (int i = 0; i < directories; ++i) {
    const std::string directory = wide + "/" + std::string(250, 'd') + std::to_string(i);
    make_directory(directory);
    make_directory(directory + "/inner");
  }
  Result<TreeUse> use = disk_usage(wide, 100000);
  CLAIM_OK(use);
  CLAIM(use->inodes == 2 * directories + 1);
  CLAIM_OK(remove_tree(wide));
  CLAIM(!exists(wide));
}

// A container that moves its directories all the time is measured still, all of it that stays where it is included.
void moved_directories_hinder_no_measurement(const std::string& base) {
  const std::string tree = base + "/moving";
  for (const char* name : {"", "/a", "/a/x", "/b", "/stays"}) make_directory(tree + name);
  for (int i = 0; i < 100; ++i) make_directory(tree + "/a/x/" + std::to_string(i));
  for (int i = 0; i < 100; ++i) make_directory(tree + "/stays/" + std::to_string(i));
  std::jthread mover([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      CLAIM(::rename((tree + "/a/x").c_str(), (tree + "/b/x").c_str()) == 0);
      CLAIM(::rename((tree + "/b/x").c_str(), (tree + "/a/x").c_str()) == 0);
    }
  });
  for (int i = 0; i < 20; ++i) {
    Result<TreeUse> use = disk_usage(tree, 100000);
    CLAIM_OK(use);
    CLAIM(use->inodes >= 104);
  }
  mover.request_stop();
  mover.join();
  CLAIM_OK(remove_tree(tree));
}

void links_are_not_followed(const std::string& base) {
  make_directory(base + "/host");
  write_file(base + "/host/keep", "precious");
  make_directory(base + "/tree");
  CLAIM(::symlink((base + "/host").c_str(), (base + "/tree/link").c_str()) == 0);
  CLAIM(::symlink((base + "/tree").c_str(), (base + "/treelink").c_str()) == 0);
  write_file(base + "/tree/big", std::string(100000, 'x'));
  CLAIM(::link((base + "/tree/big").c_str(), (base + "/tree/again").c_str()) == 0);

  Result<TreeUse> use = disk_usage(base + "/tree", 100);
  CLAIM_OK(use);
  CLAIM(use->inodes == 3 && use->bytes >= 100000 && use->bytes < 180000);
  Result<TreeUse> link = disk_usage(base + "/treelink", 100);
  CLAIM(link && link->inodes == 1);

  CLAIM_OK(remove_tree(base + "/treelink"));
  CLAIM(exists(base + "/tree/big"));
  CLAIM_OK(remove_tree(base + "/tree"));
  CLAIM(!exists(base + "/tree") && exists(base + "/host/keep"));
  CLAIM_OK(remove_tree(base + "/tree"));
  CLAIM(!remove_tree(base + "/host/.."));
  CLAIM(!remove_tree(base + "/host/"));
  CLAIM(exists(base + "/host/keep"));
}

void mount_points_keep_their_content(const std::string& base) {
  make_directory(base + "/kept");
  write_file(base + "/kept/file", "kept");
  make_directory(base + "/around");
  make_directory(base + "/around/inside");
  CLAIM(::mount((base + "/kept").c_str(), (base + "/around/inside").c_str(), nullptr, MS_BIND, nullptr) == 0);
  Status inside = remove_tree(base + "/around");
  Status itself = remove_tree(base + "/around/inside");
  CLAIM(!inside && inside.error().error_number == EBUSY);
  CLAIM(!itself && itself.error().error_number == EBUSY);
  CLAIM(exists(base + "/kept/file"));
  CLAIM_OK(unmount(base + "/around/inside"));
  CLAIM_OK(unmount(base + "/around/inside"));
  CLAIM_OK(unmount(base + "/around/never-there"));
  CLAIM_OK(remove_tree(base + "/around"));
}

}  // namespace

void test_trees(const std::string& base) {
  deep_trees_take_no_descriptors(base);
  wide_trees_are_listed_in_parts(base);
  moved_directories_hinder_no_measurement(base);
  links_are_not_followed(base);
  mount_points_keep_their_content(base);
}

}  // namespace keelson
