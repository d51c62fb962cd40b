// Sources: clone(2), unix(7), proc_pid_cmdline(5).
#include "monitor/fork_server.h"

#include <limits.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#include "common/descriptor_message.h"

namespace keelson {

namespace {

// Fails with errno 0 when the other end is closed. A message arrives without its descriptor if this process can have no
// more, or a security module refuses it: the kernel has closed the readiness then, so the daemon knows, and requests that
// wait behind it must not be lost.
Result<ForkRequest> receive(int socket) {
  char path[PATH_MAX];
  for (;;) {
    ssize_t size = 0;
    Fd readiness = receive_with_descriptor(socket, path, size, 0);
    if (size < 0) return fail_errno("receive a request");
    if (size == 0) return fail_errno("receive a request", 0);
    if (readiness) return ForkRequest{std::string(path, static_cast<size_t>(size)), std::move(readiness)};
  }
}

// The arguments of a process lie contiguously in memory, and /proc/<pid>/cmdline shows what is there. All pod
// directories have the same length, and the server was started with arguments of that length.
class CommandLine {
 public:
  explicit CommandLine(std::span<char*> words)
      : begin_(words[1]), size_(static_cast<size_t>(words.back() + strlen(words.back()) + 1 - begin_)) {}

  Status check_room(const std::string& pod_dir) const {
    if (sizeof "run" + pod_dir.size() + 1 <= size_) return {};
    return fail(Kind::invalid, "set the process name",
                "the fork server's command line has no room for " + pod_dir);
  }

  void rename(const std::string& pod_dir) const {
    memset(begin_, 0, size_);
    memcpy(begin_, "run", sizeof "run");
    memcpy(begin_ + sizeof "run", pod_dir.data(), pod_dir.size());
  }

 private:
  char* begin_;
  size_t size_;
};

// The new process is a child of this process's own parent (CLONE_PARENT) and inherits its exit signal.
Result<pid_t> fork_sibling() {
  const long pid = syscall(SYS_clone, static_cast<unsigned long>(CLONE_PARENT), nullptr, nullptr, nullptr, nullptr);
  if (pid < 0) return fail_errno("fork a monitor");
  return static_cast<pid_t>(pid);
}

}  // namespace

int serve_forks(Fd socket, std::span<char*> words, const RunForked& run, const ForkFailed& failed) {
  const CommandLine command_line(words);
  for (;;) {
    Result<ForkRequest> request = receive(socket.get());
    if (!request) return request.error().error_number == 0 ? 0 : 1;
    const Status room = command_line.check_room(request->pod_dir);
    const Result<pid_t> pid = room ? fork_sibling() : std::unexpected(room.error());
    if (!pid) failed(std::move(*request), pid.error());
    if (!pid || *pid > 0) continue;
    socket.reset();
    command_line.rename(request->pod_dir);
    return run(std::move(*request));
  }
}

}  // namespace keelson
