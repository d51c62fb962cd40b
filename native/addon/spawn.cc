#include "addon/spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <charconv>

#include "common/file.h"

namespace keelson {

namespace {

// posix_spawn(3) shares our memory with the child until its execve, as vfork(2) does: nothing is copied, and glibc
// alone runs there. Its functions return an errno.
class Actions {
 public:
  Actions() { posix_spawn_file_actions_init(&actions_); }
  ~Actions() { posix_spawn_file_actions_destroy(&actions_); }
  Actions(const Actions&) = delete;
  Actions& operator=(const Actions&) = delete;
  posix_spawn_file_actions_t* get() { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_;
};

class Attributes {
 public:
  Attributes() {
    posix_spawnattr_init(&attributes_);
    sigset_t signals;
    sigfillset(&signals);
    posix_spawnattr_setsigdefault(&attributes_, &signals);
    sigemptyset(&signals);
    posix_spawnattr_setsigmask(&attributes_, &signals);
    posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
  }
  ~Attributes() { posix_spawnattr_destroy(&attributes_); }
  Attributes(const Attributes&) = delete;
  Attributes& operator=(const Attributes&) = delete;
  const posix_spawnattr_t* get() const { return &attributes_; }

 private:
  posix_spawnattr_t attributes_;
};

Result<Fd> memory_file(const std::string& content) {
  Fd fd(::memfd_create("input", MFD_CLOEXEC));
  if (!fd) return fail_errno("make a memory file");
  TRY(write_all(fd.get(), {reinterpret_cast<const uint8_t*>(content.data()), content.size()}, "write its input"));
  if (::lseek(fd.get(), 0, SEEK_SET) != 0) return fail_errno("rewind its input");
  return fd;
}

struct Ends {
  Fd theirs;
  Fd ours;
};

Result<Ends> make_pipe(bool they_read) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno("make a pipe");
  return Ends{Fd(ends[they_read ? 0 : 1]), Fd(ends[they_read ? 1 : 0])};
}

Result<Ends> make_ends(const std::string& word, const std::string& input) {
  if (word == "reads" || word == "writes") return make_pipe(word == "reads");
  if (word == "input") return Ends{TRY(memory_file(input)), {}};
  Fd opened;
  if (word == "null") {
    opened.reset(::open("/dev/null", O_RDWR | O_CLOEXEC));
  } else {
    int fd = -1;
    std::from_chars(word.data(), word.data() + word.size(), fd);
    opened.reset(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  }
  if (!opened) return fail_errno("open descriptor " + word);
  return Ends{std::move(opened), {}};
}

// Above all that the child is to have, so that no dup2 there overwrites what a later one copies.
Status move_above(Fd& fd, int lowest) {
  if (fd.get() >= lowest) return {};
  fd = Fd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, lowest));
  if (!fd) return fail_errno("copy a descriptor");
  return {};
}

std::vector<char*> pointers(const std::vector<std::string>& words) {
  std::vector<char*> all;
  for (const std::string& word : words) all.push_back(const_cast<char*>(word.c_str()));
  all.push_back(nullptr);
  return all;
}

}  // namespace

Result<StartedProgram> start_program(const ProgramSpec& spec) {
  StartedProgram started;
  std::vector<Fd> theirs;
  Actions actions;
  const int count = static_cast<int>(spec.descriptors.size());
  for (int number = 0; number < count; ++number) {
    Ends ends = TRY(make_ends(spec.descriptors[static_cast<size_t>(number)], spec.input));
    TRY(move_above(ends.theirs, count));
    if (int error = posix_spawn_file_actions_adddup2(actions.get(), ends.theirs.get(), number)) {
      return fail_errno("give it a descriptor", error);
    }
    theirs.push_back(std::move(ends.theirs));
    started.pipes.push_back(std::move(ends.ours));
  }
  if (int error = posix_spawn_file_actions_addchdir_np(actions.get(), spec.directory.c_str())) {
    return fail_errno("give it a directory", error);
  }
  const Attributes attributes;
  const std::vector<char*> words = pointers(spec.words);
  const std::vector<char*> environment = pointers(spec.environment);
  if (int error = posix_spawnp(&started.pid, spec.file.c_str(), actions.get(), attributes.get(), words.data(),
                               environment.data())) {
    return fail_errno("start it", error);
  }
  return started;
}

pid_t ended_child() {
  siginfo_t info{};
  return ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 ? info.si_pid : 0;
}

std::vector<ReapedProgram> reap_programs(const std::vector<pid_t>& pids) {
  std::vector<ReapedProgram> reaped;
  for (pid_t pid : pids) {
    siginfo_t info{};
    if (::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG) != 0) {
      reaped.push_back({pid, -1, 0});
    } else if (info.si_pid == pid) {
      const bool exited = info.si_code == CLD_EXITED;
      reaped.push_back({pid, exited ? info.si_status : -1, exited ? 0 : info.si_status});
    }
  }
  return reaped;
}

}  // namespace keelson
