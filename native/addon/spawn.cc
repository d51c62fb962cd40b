#include "addon/spawn.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <charconv>

#include "common/file.h"
#include "common/program.h"

namespace keelson {

namespace {

Result<Fd> memory_file(const std::string& content) {
  Fd fd(::memfd_create("input", MFD_CLOEXEC));
  if (!fd) return fail_errno("create a memory file");
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
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno("create a pipe");
  return Ends{Fd(ends[they_read ? 0 : 1]), Fd(ends[they_read ? 1 : 0])};
}

Result<Ends> make_socket() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return fail_errno("create a socket");
  return Ends{Fd(ends[0]), Fd(ends[1])};
}

// `theirs` without an Fd stands for /dev/null.
Result<Ends> make_ends(const std::string& word, const std::string& input) {
  if (word == "null") return Ends{};
  if (word == "reads" || word == "writes") return make_pipe(word == "reads");
  if (word == "socket") return make_socket();
  if (word == "input") return Ends{TRY(memory_file(input)), {}};
  int ours = -1;
  std::from_chars(word.data(), word.data() + word.size(), ours);
  Fd copy(::fcntl(ours, F_DUPFD_CLOEXEC, 0));
  if (!copy) return fail_errno("duplicate descriptor " + word);
  return Ends{std::move(copy), {}};
}

// Moves it above all descriptor numbers of the child, so that no dup2 in the child overwrites the source of a later one.
Status move_above(Fd& fd, int lowest) {
  if (!fd || fd.get() >= lowest) return {};
  fd = Fd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, lowest));
  if (!fd) return fail_errno("duplicate a descriptor");
  return {};
}

}  // namespace

Result<StartedProgram> start_program(const ProgramSpec& spec) {
  StartedProgram started;
  std::vector<Fd> theirs;
  std::vector<int> numbers;
  for (const std::string& word : spec.descriptors) {
    Ends ends = TRY(make_ends(word, spec.input));
    TRY(move_above(ends.theirs, static_cast<int>(spec.descriptors.size())));
    numbers.push_back(ends.theirs.get());
    theirs.push_back(std::move(ends.theirs));
    started.pipes.push_back(std::move(ends.ours));
  }
  const ProgramStart start{spec.file, spec.words, spec.environment, spec.directory, numbers};
  if (int error = spawn_program(start, started.pid)) return fail_errno("start it", error);
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
