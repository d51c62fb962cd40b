// Measuring and removing whole trees (common/tree.h), and the lazy unmount.

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string_view>
#include <thread>

#include "addon/kernel.h"
#include "addon/test/claims.h"
#include "common/fd.h"
#include "common/tree.h"

namespace keelson {

namespace {

// A chain of directories far deeper than PATH_MAX and the descriptor limit that main sets.
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

// More non-empty directories than a walk keeps pending at once.
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

// A container that keeps moving directories can still be measured, including everything that it does not move.
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

// Moves each directory away that contains a file of the same name, as soon as the walk visits that file.
class MovesAway : public TreeVisitor {
 public:
  MovesAway(Fd from, Fd to) : from_(std::move(from)), to_(std::move(to)) {}

  Result<bool> entry(int, const char* name, unsigned char type) override {
    if (type == DT_DIR) return true;
    const bool is_ours = std::string_view(name).starts_with("moved-");
    if (is_ours && ::renameat(from_.get(), name, to_.get(), name) == 0) ++moved_;
    return false;
  }
  bool is_lenient() const override { return true; }
  int moved() const { return moved_; }

 private:
  Fd from_, to_;
  int moved_ = 0;
};

// Puts twenty directories at this depth of a tree and moves each away when it is found. Returns how many were found.
int found_while_moved(const std::string& base, int depth) {
  make_deep_tree(base + "/deep", depth);
  make_directory(base + "/away");
  auto open_below = [](int at, const char* name) { return Fd(::openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)); };
  const Fd root = open_below(AT_FDCWD, (base + "/deep").c_str());
  Fd bottom = open_below(root.get(), ".");
  for (int i = 0; i < depth; ++i) bottom = open_below(bottom.get(), "a-level-of-the-deep-tree");
  for (int i = 0; i < 20; ++i) {
    const std::string name = "moved-" + std::to_string(i);
    CLAIM(::mkdirat(bottom.get(), name.c_str(), 0755) == 0);
    CLAIM(::mknodat(bottom.get(), (name + "/" + name).c_str(), S_IFREG | 0644, 0) == 0);
  }
  MovesAway visitor(std::move(bottom), open_below(AT_FDCWD, (base + "/away").c_str()));
  CLAIM_OK(walk_tree(root.get(), visitor));
  for (const char* name : {"/deep", "/away"}) CLAIM_OK(remove_tree(base + name));
  return visitor.moved();
}

// Each time, walking back takes as long as the tree is deep, so without a limit a container could keep a thread busy for
// hours.
void moved_directories_do_not_prolong_a_walk(const std::string& base) {
  CLAIM(found_while_moved(base, 900) == 20);
  CLAIM(found_while_moved(base, 1100) == 1);
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

// Two removals of one tree may meet: what a daemon finds half-made at its start, and the removal of its whole pod.
void removed_directories_are_empty(const std::string& base) {
  make_directory(base + "/removed");
  const Fd removed(::open((base + "/removed").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  CLAIM(::rmdir((base + "/removed").c_str()) == 0);
  CLAIM_OK(each_entry(removed.get(), "removed", [](const dirent64&) -> Result<bool> {
    CLAIM(false);
    return false;
  }));
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
  moved_directories_do_not_prolong_a_walk(base);
  links_are_not_followed(base);
  removed_directories_are_empty(base);
  mount_points_keep_their_content(base);
}

}  // namespace keelson
