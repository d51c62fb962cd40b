// Reading files from layers, and finding what a container has removed from them.

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "addon/cover.h"
#include "addon/kernel.h"
#include "addon/layers.h"
#include "addon/overlay.h"
#include "addon/test/claims.h"
#include "common/file.h"
#include "common/overlayfs.h"
#include "common/tree.h"
#include "common/unnamed.h"

namespace keelson {

namespace {

// The removals are made through overlayfs itself and then read from the upper directory.
void removals_are_told_from_the_upper_directory(const std::string& base) {
  for (const char* name : {"bottom", "top", "upper", "work", "merged"}) make_directory(base + "/" + name);
  for (const char* name : {"bottom/kept", "bottom/again", "bottom/again/deep", "bottom/hidden", "top/again", "top/hidden"})
    make_directory(base + "/" + name);
  for (const char* name : {"bottom/file", "bottom/other", "bottom/kept/gone", "bottom/again/low", "bottom/again/new", "top/again/high",
                           "bottom/hidden/below", "top/hidden/above"})
    write_file(base + "/" + name, "x");
  // In the image itself: the top layer has recreated `hidden` and removed `other`.
  CLAIM(::lsetxattr((base + "/top/hidden").c_str(), "trusted.overlay.opaque", "y", 1, 0) == 0);
  CLAIM(::mknod((base + "/top/other").c_str(), S_IFCHR, makedev(0, 0)) == 0);
  const std::string options = "lowerdir=" + base + "/top:" + base + "/bottom,upperdir=" + base + "/upper,workdir=" + base + "/work";
  CLAIM(::mount("overlay", (base + "/merged").c_str(), "overlay", 0, options.c_str()) == 0);
  auto merged = [&](const char* path) { return base + "/merged/" + path; };
  CLAIM(::unlink(merged("file").c_str()) == 0 && ::unlink(merged("kept/gone").c_str()) == 0);
  for (const char* directory : {"again", "hidden"}) {
    CLAIM_OK(remove_tree(merged(directory)));
    make_directory(merged(directory));
  }
  write_file(merged("again/new"), "new");
  CLAIM_OK(unmount(base + "/merged"));

  const std::vector<std::string> layers{base + "/top", base + "/bottom"};
  Result<std::vector<std::string>> removed = removed_paths(base + "/upper", layers, 100);
  CLAIM_OK(removed);
  std::sort(removed->begin(), removed->end());
  CLAIM((*removed == std::vector<std::string>{"again/deep", "again/high", "again/low", "file", "hidden/above", "kept/gone"}));
  Result<std::vector<std::string>> bounded = removed_paths(base + "/upper", layers, 5);
  CLAIM(!bounded && bounded.error().kind == Kind::invalid);
  // If a layer has a symlink where the container has a directory, nothing is listed from it or from the link's target.
  CLAIM_OK(remove_tree(base + "/top/again"));
  CLAIM(::symlink((base + "/bottom/again").c_str(), (base + "/top/again").c_str()) == 0);
  Result<std::vector<std::string>> behind_link = removed_paths(base + "/upper", layers, 100);
  CLAIM(behind_link && behind_link->size() == 3);
  CLAIM(!removed_paths(base + "/nothing", layers, 100));
}

std::vector<std::string> make_layers(const std::string& base, int count) {
  std::vector<std::string> layers;
  for (int i = 0; i < count; ++i) {
    layers.push_back(base + "/layer-" + std::to_string(i));
    make_directory(layers.back());
    make_directory(layers.back() + "/etc");
    write_file(layers.back() + "/etc/own-" + std::to_string(i), std::to_string(i));
    write_file(layers.back() + "/etc/passwd", "of layer " + std::to_string(i));
  }
  return layers;
}

const std::string* text_of(const LayerFile& file) { return std::get_if<std::string>(&file); }

void layers_are_read_as_overlayfs_shows_them(const std::string& base) {
  std::vector<std::string> layers = make_layers(base, 60);
  CLAIM(::mknod((layers[0] + "/etc/own-7").c_str(), S_IFCHR, makedev(0, 0)) == 0);
  Result<std::vector<LayerFile>> files =
      read_from_layers(layers, {"/etc/passwd", "etc/own-59", "/etc/own-7", "/etc/none", "/etc"}, 100);
  CLAIM_OK(files);
  CLAIM(text_of((*files)[0]) != nullptr && *text_of((*files)[0]) == "of layer 0");
  CLAIM(text_of((*files)[1]) != nullptr && *text_of((*files)[1]) == "59");
  CLAIM(std::holds_alternative<MissingFile>((*files)[2]));
  CLAIM(std::holds_alternative<MissingFile>((*files)[3]));
  CLAIM(std::holds_alternative<NotRegularFile>((*files)[4]));

  CLAIM(!open_layers({}));
}

// The mount options for kernels before 6.7 give the same result.
void layers_fit_the_page_of_older_kernels(const std::string& base) {
  constexpr int most_of_docker = 127;
  make_directory(base + "/many");
  std::vector<std::string> layers = make_layers(base + "/many", most_of_docker);
  Result<Fd> root = open_layers(layers, LayerOption::page);
  CLAIM_OK(root);
  Fd passwd(::openat(root->get(), "etc/passwd", O_RDONLY | O_CLOEXEC));
  CLAIM(passwd && read_to_end(passwd.get(), 100, "passwd") == "of layer 0");
  CLAIM(::faccessat(root->get(), "etc/own-126", F_OK, 0) == 0);
  // The mount is visible nowhere.
  CLAIM(::access((layers.front() + "/etc/own-126").c_str(), F_OK) != 0);

  Result<Fd> missing = open_layers({layers.front(), base + "/nowhere"}, LayerOption::page);
  CLAIM(!missing && missing.error().error_number == ENOENT);
  layers.resize(most_overlay_layers + 1, layers.front());
  for (LayerOption option : {LayerOption::page, LayerOption::automatic}) {
    Result<Fd> too_many = open_layers(layers, option);
    CLAIM(!too_many && too_many.error().kind == Kind::invalid);
  }
}

void hostile_files_are_not_opened(const std::string& base) {
  std::string layer = base + "/hostile";
  make_directory(layer);
  write_file(base + "/secret", "of the host");
  CLAIM(::mkfifo((layer + "/fifo").c_str(), 0644) == 0);
  CLAIM(::mknod((layer + "/zero").c_str(), S_IFCHR | 0666, makedev(1, 5)) == 0);
  CLAIM(::mknod((layer + "/whiteout").c_str(), S_IFCHR, makedev(0, 0)) == 0);
  CLAIM(::symlink("/fifo", (layer + "/to-fifo").c_str()) == 0);
  CLAIM(::symlink((base + "/secret").c_str(), (layer + "/absolute").c_str()) == 0);
  CLAIM(::symlink("../secret", (layer + "/relative").c_str()) == 0);
  CLAIM(::symlink("/loop", (layer + "/loop").c_str()) == 0);
  CLAIM(::symlink("/proc/self/root", (layer + "/magic").c_str()) == 0);
  write_file(layer + "/good", "good");
  CLAIM(::symlink("/../../good", (layer + "/to-good").c_str()) == 0);
  write_file(layer + "/huge", "");
  CLAIM(::truncate((layer + "/huge").c_str(), off_t{5} << 30) == 0);

  Result<std::vector<LayerFile>> files = read_from_layers(
      {layer},
      {"fifo", "zero", "to-fifo", "whiteout", "absolute", "relative", "loop", "magic/etc/passwd", "../secret", "to-good", "huge"},
      4096);
  CLAIM_OK(files);
  for (size_t i = 0; i < 3; ++i) CLAIM(std::holds_alternative<NotRegularFile>((*files)[i]));
  for (size_t i = 3; i < 9; ++i) CLAIM(std::holds_alternative<MissingFile>((*files)[i]));
  CLAIM(text_of((*files)[9]) != nullptr && *text_of((*files)[9]) == "good");
  const auto* huge = std::get_if<TooLargeFile>(&(*files)[10]);
  CLAIM(huge != nullptr && huge->size == uint64_t{5} << 30);
}

void unnamed_directories_are_covered(const std::string& base) {
  for (const char* name : {"low", "low/a", "low/a/b", "high", "high/a", "high/a/b", "cover"}) make_directory(base + "/" + name);
  CLAIM(::chmod((base + "/low/a/b").c_str(), 01777) == 0);
  auto opened = [&](const char* name) { return open_file(base + "/" + name, O_RDONLY | O_DIRECTORY); };
  CLAIM_OK(mark_way(opened("high")->get()));
  CLAIM_OK(mark_unnamed(opened("high/a")->get()));
  CLAIM_OK(mark_unnamed(opened("high/a/b")->get()));
  Result<uint64_t> made = cover_unnamed({base + "/high", base + "/low"}, base + "/cover");
  CLAIM(made && *made == 3);
  struct stat status {};
  CLAIM(::stat((base + "/cover/a/b").c_str(), &status) == 0 && (status.st_mode & 07777) == 01777);
  CLAIM_OK(mark_named(opened("high/a/b")->get()));
  CLAIM_OK(remove_tree(base + "/cover/a"));
  made = cover_unnamed({base + "/high", base + "/low"}, base + "/cover");
  CLAIM(made && *made == 0);
}

void names_of_unnamed_directories_fill_no_memory(const std::string& base) {
  const std::string crowded = base + "/crowded";
  make_directory(crowded);
  make_directory(base + "/empty");
  CLAIM_OK(mark_way(open_file(crowded, O_RDONLY | O_DIRECTORY)->get()));
  for (char name = 'a'; name <= 'j'; ++name) {
    const std::string directory = crowded + "/" + std::string(200, name);
    make_directory(directory);
    CLAIM_OK(mark_unnamed(open_file(directory, O_RDONLY | O_DIRECTORY)->get()));
  }
  CLAIM_OK(cover_unnamed_within(3000, {crowded, crowded}, base + "/empty"));
  Result<uint64_t> made = cover_unnamed_within(2000, {crowded, crowded}, base + "/empty");
  CLAIM(!made && made.error().kind == Kind::invalid);
}

}  // namespace

void test_layers(const std::string& base) {
  removals_are_told_from_the_upper_directory(base);
  layers_are_read_as_overlayfs_shows_them(base);
  layers_fit_the_page_of_older_kernels(base);
  hostile_files_are_not_opened(base);
  unnamed_directories_are_covered(base);
  names_of_unnamed_directories_fill_no_memory(base);
}

}  // namespace keelson
