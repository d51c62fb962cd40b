// Runs the addon's functions without Node, so that sanitizers see them: `make -C native sanitize`,
// then build/sanitize/addon-unit-test. Needs root (overlay mounts). Exits 1 at the first claim that does not hold.

#include <dirent.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <string>

#include "addon/descriptors.h"
#include "addon/figures.h"
#include "addon/files.h"
#include "addon/kernel.h"
#include "addon/layers.h"
#include "addon/network.h"
#include "addon/overlay.h"
#include "addon/seccomp.h"
#include "common/file.h"
#include "common/tree.h"

namespace keelson {

namespace {

void claim(bool holds, const char* what, int line) {
  if (holds) return;
  fprintf(stderr, "addon_test.cc:%d: does not hold: %s (errno: %s)\n", line, what, strerror(errno));
  exit(1);
}
#define CLAIM(condition) claim((condition), #condition, __LINE__)

template <typename T>
void claim_ok(const Result<T>& result, int line) {
  if (result) return;
  fprintf(stderr, "addon_test.cc:%d: %s\n", line, result.error().message().c_str());
  exit(1);
}
#define CLAIM_OK(result) claim_ok((result), __LINE__)

void write_file(const std::string& path, const std::string& content) {
  Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  CLAIM(fd && ::write(fd.get(), content.data(), content.size()) == static_cast<ssize_t>(content.size()));
}

void make_directory(const std::string& path) { CLAIM(::mkdir(path.c_str(), 0755) == 0); }
bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

int open_descriptors() {
  int count = 0;
  DIR* list = ::opendir("/proc/self/fd");
  while (::readdir(list) != nullptr) ++count;
  ::closedir(list);
  return count;
}

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
  CLAIM(!bounded && bounded.error().kind == Kind::invalid);
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

// A namespace outlives its last process by the pin, and is told apart from what is none.
void a_pin_keeps_a_network_namespace(const std::string& base) {
  int ready[2];
  CLAIM(::pipe2(ready, O_CLOEXEC) == 0);
  const pid_t holder = ::fork();
  if (holder == 0) {
    const bool entered = ::unshare(CLONE_NEWNET) == 0 && ::write(ready[1], "x", 1) == 1;
    if (entered) ::pause();
    ::_exit(1);
  }
  char word = 0;
  CLAIM(holder > 0 && ::read(ready[0], &word, 1) == 1);
  ::close(ready[0]);
  ::close(ready[1]);
  const std::string pin = base + "/pin";
  const int before = open_descriptors();
  CLAIM_OK(pin_namespace("/proc/" + std::to_string(holder) + "/ns/net", pin));
  ::kill(holder, SIGKILL);
  CLAIM(::waitpid(holder, nullptr, 0) == holder);

  CLAIM_OK(interface_addresses(pin, "lo"));
  CLAIM(interface_addresses(pin, "lo")->empty());  // it was never brought up
  auto is_missing = [](const Result<std::vector<std::string>>& found) {
    return !found && found.error().kind == Kind::not_found;
  };
  CLAIM(is_missing(interface_addresses(pin, "eth0")));
  CLAIM_OK(unmount(pin));
  CLAIM(is_missing(interface_addresses(pin, "lo")));
  CLAIM(is_missing(interface_addresses(base + "/never-there", "lo")));
  CLAIM(!pin_namespace(pin, base + "/other") && !exists(base + "/other"));
  CLAIM(open_descriptors() == before);
}

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

void a_fifo_does_not_hold_a_reader(const std::string& base) {
  CLAIM(::mkfifo((base + "/a-fifo").c_str(), 0644) == 0);
  write_file(base + "/ten", "0123456789");
  FileContents contents = read_files({base + "/a-fifo", base + "/none", base + "/ten", "/proc/self/status", base}, 10);
  CLAIM(!contents[0] && !contents[1] && contents[2] == "0123456789" && !contents[3] && !contents[4]);
  CLAIM(read_files({base + "/ten"}, 9)[0] == std::nullopt);
  CLAIM(read_files({"/proc/self/status"}, 1 << 20)[0]->starts_with("Name:"));
  CLAIM_OK(sync_file_system(base));
  CLAIM(!sync_file_system(base + "/none"));
}

void figures_come_by_key(const std::string& base) {
  write_file(base + "/flat", "used_more 1\nused 2");
  write_file(base + "/nested", "some avg10=1.50 total=77\nfull avg10=0.05 total");
  std::vector<uint64_t> figures = read_figures(
      {base, base + "/none"}, {"flat used", "flat", "nested some total", "nested full avg10", "nested full total", "none", ""});
  CLAIM((figures == std::vector<uint64_t>{2, no_figure, 77, 5, no_figure, no_figure, no_figure, no_figure, no_figure,
                                          no_figure, no_figure, no_figure, no_figure, no_figure}));
}

void figures_come_again_from_open_files(const std::string& base) {
  const std::string cgroup = base + "/cgroup";
  CLAIM(mkdir(cgroup.c_str(), 0755) == 0);
  for (const char* name : {"/one", "/two"}) write_file(cgroup + name, "1\n");
  FiguresReader reader(1);
  auto read = [&] { return reader.read({cgroup, base + "/none"}, {"one", "two", "three"}); };
  const std::vector<uint64_t> before{1, 1, no_figure, no_figure, no_figure, no_figure};
  CLAIM(read() == before && read() == before && reader.open_files() == 1);
  for (const char* name : {"/one", "/two"}) write_file(cgroup + name, "22\n");
  CLAIM((read() == std::vector<uint64_t>{22, 22, no_figure, no_figure, no_figure, no_figure}));
  // As of a cgroup that is gone: nothing comes of the open file any more, and another is there.
  write_file(cgroup + "/new", "333\n");
  CLAIM(truncate((cgroup + "/one").c_str(), 0) == 0 && rename((cgroup + "/new").c_str(), (cgroup + "/one").c_str()) == 0);
  CLAIM(read()[0] == 333 && reader.open_files() == 1);
  reader.forget({cgroup, base + "/none", base + "/never"});
  CLAIM(reader.open_files() == 0 && read()[0] == 333);
}

void a_sealed_copy_cannot_change(const std::string& base) {
  Result<Fd> copy = sealed_copy("/bin/true");
  CLAIM_OK(copy);
  CLAIM(::write(copy->get(), "x", 1) < 0 && errno == EPERM);
  CLAIM(::ftruncate(copy->get(), 0) < 0 && errno == EPERM);
  CLAIM(::mmap(nullptr, 4096, PROT_WRITE, MAP_SHARED, copy->get(), 0) == MAP_FAILED);
  CLAIM((::fcntl(copy->get(), F_GETFD) & FD_CLOEXEC) != 0);
  pid_t child = ::fork();
  if (child == 0) {
    std::string path = "/proc/self/fd/" + std::to_string(copy->get());
    ::execl(path.c_str(), "true", nullptr);
    ::_exit(99);
  }
  int status = 0;
  CLAIM(::waitpid(child, &status, 0) == child && status == 0);
  CLAIM(!sealed_copy(base) && !sealed_copy("/dev/zero") && !sealed_copy(base + "/none"));
}

void a_lock_is_held_once(const std::string& base) {
  Result<Fd> first = try_lock(base + "/lock");
  CLAIM(first && *first);
  Result<Fd> second = try_lock(base + "/lock");
  CLAIM(second && !*second);
  first->reset();
  Result<Fd> third = try_lock(base + "/lock");
  CLAIM(third && *third);
}

void descriptors_are_counted_within_a_limit() {
  const std::vector<std::string> twice = {"/proc/self/fd", "/proc/0/fd", "/proc/self/fd"};
  // What this program was started with may be sockets too.
  const auto before = count_descriptors(twice, 1000);
  CLAIM_OK(before);
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto after = count_descriptors(twice, before->all + 2);
  CLAIM_OK(after);
  CLAIM(after->all == before->all + 2 && after->sockets == before->sockets + 2);
  const auto bounded = count_descriptors(twice, after->all - 1);
  CLAIM(!bounded && bounded.error().kind == Kind::invalid);
}

void profiles_are_checked() {
  Result<std::string> program = compile_seccomp(
      R"({"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86"],"syscalls":[
          {"names":["mkdir","no_such_call","arch_prctl"],"action":"SCMP_ACT_ERRNO","errnoRet":1},
          {"names":["socket"],"action":"SCMP_ACT_ERRNO","args":[
            {"index":0,"value":38,"op":"SCMP_CMP_EQ"},{"index":0,"value":40,"op":"SCMP_CMP_EQ"}]}]})");
  CLAIM_OK(program);
  CLAIM(!program->empty() && program->size() % sizeof(sock_filter) == 0);
  for (const char* wrong : {
           "", "[]", "{", "{}", R"({"defaultAction":"SCMP_ACT_NOTIFY"})",
           R"({"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":5000})",
           R"({"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_VAX"]})",
           R"({"defaultAction":"SCMP_ACT_ALLOW","architectures":[7]})",
           R"({"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_LOG"]})",
           R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_DANCE"}]})",
           R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_TRAP",
               "args":[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]}]})",
           R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_TRAP",
               "args":[{"index":1,"value":1,"op":"SCMP_CMP_ABOUT"}]}]})",
           R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_TRAP",
               "args":[{"index":1,"value":18446744073709551615,"op":"SCMP_CMP_EQ"}]}]})",
       }) {
    Result<std::string> refused = compile_seccomp(wrong);
    CLAIM(!refused && refused.error().kind == Kind::invalid);
  }
}

}  // namespace

int test_all() {
  struct rlimit few = {256, 256};
  CLAIM(::setrlimit(RLIMIT_NOFILE, &few) == 0);
  char base[] = "/tmp/keelson-addon-test-XXXXXX";
  CLAIM(::mkdtemp(base) != nullptr);
  int before = open_descriptors();
  deep_trees_take_no_descriptors(base);
  wide_trees_are_listed_in_parts(base);
  links_are_not_followed(base);
  mount_points_keep_their_content(base);
  a_pin_keeps_a_network_namespace(base);
  removals_are_told_from_the_upper_directory(base);
  layers_are_read_as_overlayfs_shows_them(base);
  hostile_files_are_not_opened(base);
  a_fifo_does_not_hold_a_reader(base);
  figures_come_by_key(base);
  figures_come_again_from_open_files(base);
  a_sealed_copy_cannot_change(base);
  a_lock_is_held_once(base);
  descriptors_are_counted_within_a_limit();
  profiles_are_checked();
  CLAIM(bounding_capabilities() != 0);
  CLAIM(open_descriptors() == before);
  CLAIM_OK(remove_tree(base));
  CLAIM(!exists(base));
  printf("addon: all claims hold\n");
  return 0;
}

}  // namespace keelson

int main() { return keelson::test_all(); }
