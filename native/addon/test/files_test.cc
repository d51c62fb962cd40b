// Small files and figures, a lock, open descriptors.

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "addon/descriptors.h"
#include "addon/figures.h"
#include "addon/files.h"
#include "addon/host_path.h"
#include "addon/own_process.h"
#include "addon/test/claims.h"

namespace keelson {

namespace {

void a_fifo_does_not_hold_a_reader(const std::string& base) {
  CLAIM(::mkfifo((base + "/a-fifo").c_str(), 0644) == 0);
  write_file(base + "/ten", "0123456789");
  FileContents contents = read_files({base + "/a-fifo", base + "/none", base + "/ten", "/proc/self/status", base}, 10);
  CLAIM(!contents[0] && !contents[1] && contents[2] == "0123456789" && !contents[3] && !contents[4]);
  CLAIM(read_files({base + "/ten"}, 9)[0] == std::nullopt);
  CLAIM(read_files({"/proc/self/status"}, 1 << 20)[0]->starts_with("Name:"));
  Fd directory(::open(base.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  CLAIM_OK(sync_file_system(directory.get()));
  CLAIM(!sync_file_system(-1));
}

void paths_are_made_present(const std::string& base) {
  CLAIM(resolve_path(base + "/made").error().error_number == ENOENT && !exists(base + "/made"));
  CLAIM(present_path(base + "/made/with/parents") == base + "/made/with/parents");
  CLAIM(::symlink("made/with", (base + "/a-link").c_str()) == 0);
  CLAIM(resolve_path(base + "/a-link/parents") == base + "/made/with/parents");
  CLAIM(present_path(base + "/a-link/parents") == base + "/made/with/parents");
  CLAIM(present_path(base + "/ten") == base + "/ten");
  CLAIM(present_path(base + "/ten/below").error().error_number == ENOTDIR);
  CLAIM(::symlink("nowhere", (base + "/dangling").c_str()) == 0);
  CLAIM(present_path(base + "/dangling").error().error_number == ENOENT && !exists(base + "/nowhere"));
}

void work_in_a_process_of_its_own_has_none_of_our_descriptors(const std::string& base) {
  const Fd lock = std::move(*try_lock(base + "/lock"));
  bool has_lock = true;
  pid_t process = 0;
  CLAIM_OK(in_own_process([&] {
    has_lock = ::fcntl(lock.get(), F_GETFD) >= 0;
    process = ::getpid();
  }));
  CLAIM(!has_lock && process != ::getpid() && !*try_lock(base + "/lock"));
  CLAIM(in_own_process([] { ::raise(SIGKILL); }).error().kind == Kind::state);
}

void figures_come_by_key(const std::string& base) {
  write_file(base + "/flat", "used_more 1\nused 2");
  write_file(base + "/nested", "some avg10=1.50 total=77\nfull avg10=0.05 total");
  std::vector<uint64_t> figures =
      read_figures({base, base + "/none"}, {"*/flat used", "*/flat", "*/nested some total", "*/nested full avg10",
                                            "*/nested full total", "*/none", ""});
  CLAIM((figures == std::vector<uint64_t>{2, no_figure, 77, 5, no_figure, no_figure, no_figure, no_figure, no_figure,
                                          no_figure, no_figure, no_figure, no_figure, no_figure}));
}

void figures_come_from_several_hierarchies(const std::string& base) {
  for (const char* directory : {"/a mount", "/a mount/pod", "/b*", "/b*/pod"}) {
    CLAIM(mkdir((base + directory).c_str(), 0755) == 0);
  }
  write_file(base + "/a mount/pod/flat", "used 1\n");
  write_file(base + "/b*/pod/flat", "used 2\n");
  CLAIM((read_figures({"/pod"}, {base + "/a mount*/flat used", base + "/b**/flat used"}) == std::vector<uint64_t>{1, 2}));
}

void figures_come_again_from_open_files(const std::string& base) {
  const std::string cgroup = base + "/cgroup";
  CLAIM(mkdir(cgroup.c_str(), 0755) == 0);
  for (const char* name : {"/one", "/two"}) write_file(cgroup + name, "1\n");
  FiguresReader reader(1);
  auto read = [&] { return reader.read({cgroup, base + "/none"}, {"*/one", "*/two", "*/three"}); };
  const std::vector<uint64_t> before{1, 1, no_figure, no_figure, no_figure, no_figure};
  CLAIM(read() == before && read() == before && reader.open_files() == 1);
  for (const char* name : {"/one", "/two"}) write_file(cgroup + name, "22\n");
  CLAIM((read() == std::vector<uint64_t>{22, 22, no_figure, no_figure, no_figure, no_figure}));
  // As with a cgroup that was removed and created again: the open file reads as empty, and there is a new file.
  write_file(cgroup + "/new", "333\n");
  CLAIM(truncate((cgroup + "/one").c_str(), 0) == 0 && rename((cgroup + "/new").c_str(), (cgroup + "/one").c_str()) == 0);
  CLAIM(read()[0] == 333 && reader.open_files() == 1);
  reader.forget({cgroup, base + "/none", base + "/never"});
  CLAIM(reader.open_files() == 0 && read()[0] == 333);
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
  // The descriptors that this program inherited may be sockets too.
  const auto before = count_descriptors(twice, 1000);
  CLAIM_OK(before);
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto after = count_descriptors(twice, before->all + 2);
  CLAIM_OK(after);
  CLAIM(after->all == before->all + 2 && after->sockets == before->sockets + 2);
  const auto bounded = count_descriptors(twice, after->all - 1);
  CLAIM(!bounded && bounded.error().kind == Kind::invalid);
}

}  // namespace

void test_files(const std::string& base) {
  a_fifo_does_not_hold_a_reader(base);
  paths_are_made_present(base);
  work_in_a_process_of_its_own_has_none_of_our_descriptors(base);
  figures_come_by_key(base);
  figures_come_from_several_hierarchies(base);
  figures_come_again_from_open_files(base);
  a_lock_is_held_once(base);
  descriptors_are_counted_within_a_limit();
}

}  // namespace keelson
