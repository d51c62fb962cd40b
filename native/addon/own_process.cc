// Sources: clone(2), vfork(2), close_range(2), wait(2).
#include "addon/own_process.h"

#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>

namespace keelson {

namespace {

constexpr size_t stack_bytes = 64 << 10;

int run(void* argument) {
  ::close_range(0, ~0U, 0);
  (*static_cast<const std::function<void()>*>(argument))();
  ::_exit(0);
}

}  // namespace

Status in_own_process(const std::function<void()>& work) {
  const auto stack = std::make_unique_for_overwrite<std::byte[]>(stack_bytes);
  // None of our signal handlers may run there.
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  // CLONE_VFORK suspends this thread, so that the child may use its C library state. Without an exit signal, no other wait
  // call sees the process as a child.
  auto* argument = const_cast<std::function<void()>*>(&work);
  const pid_t child = ::clone(run, stack.get() + stack_bytes, CLONE_VM | CLONE_VFORK, argument);
  const int error = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (child < 0) return fail_errno("start a process", error);
  int status = 0;
  while (::waitpid(child, &status, __WCLONE) < 0) {
    if (errno != EINTR) return fail_errno("wait for a process");
  }
  if (!WIFEXITED(status)) return fail(Kind::state, "run a process", "it was killed");
  return {};
}

}  // namespace keelson
