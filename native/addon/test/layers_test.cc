// Reading what stands in layers, and what a container has removed of them.

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "addon/kernel.h"
#include "addon/layers.h"
#include "addon/overlay.h"
#include "addon/test/claims.h"
#include "common/file.h"
#include "common/tree.h"

namespace keelson {

namespace {

// What overlayfs itself makes of the removals is what is read back.
void removals_are_told_from_the_upper_directory(const std::string& base) {
  for (const char* name : {"bottom", "top", "upper", "work", "merged"}) make_directory(base + "/" + name);
  for (const char* name : {"bottom/kept", "bottom/again", "bottom/again/deep", "bottom/hidden", "top/again", "top/hidden"})
    make_directory(base + "/" + name);
  for (const char* name : {"bottom/file", "bottom/other", "bottom/kept/gone", "bottom/again/low", "bottom/again/new", "top/again/high",
                           "bottom/hidden/below", "top/hidden/above"})
    write_file(base + "/" + name, "x");
  // In the image itself: the top layer has made `hidden` again, and removed `other`.
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
  // A layer that has a link where the container has a directory shows nothing there, least of all what it points to.
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

  // The form that kernels before 6.7 know shows the same, up to its limit.
  Result<Fd> joined = open_layers(layers, LayerOption::joined);
  CLAIM_OK(joined);
  Fd passwd(::openat(joined->get(), "etc/passwd", O_RDONLY | O_CLOEXEC));
  CLAIM(passwd && read_to_end(passwd.get(), 100, "passwd") == "of layer 0");
  CLAIM(::faccessat(joined->get(), "etc/own-59", F_OK, 0) == 0);
  std::vector<std::string> many;
  for (int i = 0; i < 3; ++i) many.insert(many.end(), layers.begin(), layers.end());
  Result<Fd> too_many = open_layers(many, LayerOption::joined);
  CLAIM(!too_many && too_many.error().kind == Kind::invalid);
  CLAIM(!open_layers({}));
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

}  // namespace

void test_layers(const std::string& base) {
  removals_are_told_from_the_upper_directory(base);
  layers_are_read_as_overlayfs_shows_them(base);
  hostile_files_are_not_opened(base);
}

}  // namespace keelson
