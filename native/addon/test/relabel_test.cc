// SELinux labels of trees (addon/relabel.h). The kernel stores the attribute whether or not SELinux is enabled.

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "addon/kernel.h"
#include "addon/relabel.h"
#include "addon/test/claims.h"

namespace keelson {

namespace {

const std::string label = "system_u:object_r:container_file_t:s0:c1,c2";
const std::string other = "system_u:object_r:container_file_t:s0:c3,c4";

// The label of the file itself, even if it is a symlink.
std::string label_of(const std::string& path) {
  char found[256];
  const ssize_t size = ::lgetxattr(path.c_str(), "security.selinux", found, sizeof found);
  return size <= 0 ? "" : std::string(found, static_cast<size_t>(size) - 1);
}

Result<uint64_t> relabel(const std::string& path, const std::string& wanted = label) {
  return relabel_tree(path, wanted, 1000, 60);
}

void all_of_a_tree_is_labelled_and_nothing_else(const std::string& base) {
  const std::string volume = base + "/volume";
  make_directory(base + "/host");
  write_file(base + "/host/keep", "precious");
  make_directory(volume);
  make_directory(volume + "/a");
  make_directory(volume + "/a/b");
  write_file(volume + "/a/b/file", "");
  CLAIM(::symlink((base + "/host").c_str(), (volume + "/link").c_str()) == 0);
  CLAIM(::symlink((base + "/host/keep").c_str(), (volume + "/a/file-link").c_str()) == 0);
  // Opening the FIFO would block, opening the watchdog would start it.
  CLAIM(::mkfifo((volume + "/fifo").c_str(), 0600) == 0);
  CLAIM(::mknod((volume + "/watchdog").c_str(), S_IFCHR | 0600, ::makedev(10, 130)) == 0);

  Result<uint64_t> labelled = relabel(volume);
  CLAIM_OK(labelled);
  CLAIM(*labelled == 8);
  for (const char* name : {"", "/a", "/a/b", "/a/b/file", "/link", "/a/file-link", "/fifo", "/watchdog"}) {
    CLAIM(label_of(volume + name) == label);
  }
  CLAIM(label_of(base + "/host").empty() && label_of(base + "/host/keep").empty());

  write_file(base + "/one", "");
  CLAIM_OK(relabel(base + "/one"));
  CLAIM(label_of(base + "/one") == label);
}

void a_labelled_top_is_a_labelled_tree(const std::string& base) {
  const std::string volume = base + "/labelled";
  make_directory(volume);
  write_file(volume + "/file", "");
  CLAIM_OK(relabel(volume));
  const Result<bool> labelled = has_label(volume, label), unlabelled = has_label(volume, other);
  CLAIM(labelled && *labelled && unlabelled && !*unlabelled);
  write_file(volume + "/later", "");
  Result<uint64_t> again = relabel(volume);
  CLAIM(again && *again == 0 && label_of(volume + "/later").empty());
  // Relabelling for another pod changes every file that does not have its label yet.
  CLAIM(::lsetxattr((volume + "/later").c_str(), "security.selinux", other.c_str(), other.size() + 1, 0) == 0);
  Result<uint64_t> changed = relabel(volume, other);
  CLAIM(changed && *changed == 2);
}

void a_walk_that_breaks_off_is_done_again(const std::string& base) {
  const std::string volume = base + "/large";
  make_directory(volume);
  for (int i = 0; i < 20; ++i) write_file(volume + "/" + std::to_string(i), "");
  Result<uint64_t> bounded = relabel_tree(volume, label, 10, 60);
  CLAIM(!bounded && bounded.error().kind == Kind::invalid);
  CLAIM(label_of(volume).empty());
  Result<uint64_t> rest = relabel(volume);
  CLAIM(rest && *rest == 11);

  for (int i = 0; i < 300; ++i) write_file(volume + "/more-" + std::to_string(i), "");
  Result<uint64_t> late = relabel_tree(volume, other, 10000, 0);
  CLAIM(!late && late.error().kind == Kind::timeout);
}

void no_link_leads_to_it(const std::string& base) {
  make_directory(base + "/target");
  make_directory(base + "/target/inner");
  CLAIM(::symlink((base + "/target").c_str(), (base + "/way").c_str()) == 0);
  for (const char* path : {"/way", "/way/inner"}) {
    Result<uint64_t> refused = relabel(base + path);
    CLAIM(!refused && refused.error().error_number == ELOOP);
    const Result<bool> unseen = has_label(base + path, label);
    CLAIM(!unseen && unseen.error().error_number == ELOOP);
  }
  Result<uint64_t> missing = relabel(base + "/nothing");
  CLAIM(!missing && missing.error().error_number == ENOENT);
  CLAIM(label_of(base + "/target").empty() && label_of(base + "/target/inner").empty());
}

void other_mounts_are_left_alone(const std::string& base) {
  const std::string volume = base + "/mounts";
  for (const char* name : {"/outside", "/mounts", "/mounts/inside"}) make_directory(base + name);
  write_file(base + "/outside/file", "");
  write_file(volume + "/file", "");
  const auto bind = [&](const char* from, const char* to) {
    CLAIM(::mount((base + from).c_str(), (base + to).c_str(), nullptr, MS_BIND, nullptr) == 0);
  };
  bind("/outside", "/mounts/inside");
  bind("/outside/file", "/mounts/file");
  CLAIM_OK(relabel(volume));
  CLAIM(label_of(base + "/outside").empty() && label_of(base + "/outside/file").empty());
  CLAIM(label_of(volume) == label);
  CLAIM_OK(unmount(volume + "/inside"));
  CLAIM_OK(unmount(volume + "/file"));
}

void file_systems_without_labels_are_passed_over() {
  Result<uint64_t> none = relabel("/proc/sys/kernel");
  CLAIM(none && *none == 0);
}

// Another process swaps a directory with a symlink, and creates and removes files, as fast as it can.
void is_not_redirected_by_links(const std::string& base) {
  const std::string volume = base + "/raced", host = base + "/raced-host";
  make_directory(host);
  write_file(host + "/precious", "");
  make_directory(volume);
  make_directory(volume + "/real");
  write_file(volume + "/real/precious", "");
  CLAIM(::symlink(host.c_str(), (volume + "/link").c_str()) == 0);
  const std::string real = volume + "/real", link = volume + "/link", coming = volume + "/coming";
  const pid_t neighbour = ::fork();
  if (neighbour == 0) {
    for (;;) {
      ::renameat2(AT_FDCWD, real.c_str(), AT_FDCWD, link.c_str(), RENAME_EXCHANGE);
      ::unlink(coming.c_str());
      const int made = ::open(coming.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
      if (made >= 0) ::close(made);
    }
  }
  for (int i = 0; i < 50; ++i) {
    Result<uint64_t> walked = relabel(volume, i % 2 == 0 ? label : other);
    // The error that a directory has become a symlink is acceptable.
    if (!walked) CLAIM(walked.error().error_number == ELOOP || walked.error().error_number == ENOTDIR);
  }
  ::kill(neighbour, SIGKILL);
  ::waitpid(neighbour, nullptr, 0);
  CLAIM(label_of(host).empty() && label_of(host + "/precious").empty());
}

}  // namespace

void test_relabel(const std::string& above) {
  const std::string base = above + "/relabel";
  make_directory(base);
  all_of_a_tree_is_labelled_and_nothing_else(base);
  a_labelled_top_is_a_labelled_tree(base);
  a_walk_that_breaks_off_is_done_again(base);
  no_link_leads_to_it(base);
  other_mounts_are_left_alone(base);
  file_systems_without_labels_are_passed_over();
  is_not_redirected_by_links(base);
}

}  // namespace keelson
