// For exec.test.ts: makes the next clone3 of a process fail with an errno, by ptrace(2). For x86-64 only.
// Usage: syscall-failer <pid> <errno>. Prints "attached" once it is attached, and exits when the call has failed.
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

namespace {

[[noreturn]] void fail(const char* what) {
  perror(what);
  exit(1);
}

// Lets the process run to the entry of its next system call, or to the exit of the current one; passes signals on.
user_regs_struct next_stop(pid_t pid) {
  constexpr int system_call_stop = SIGTRAP | 0x80;
  user_regs_struct registers = {};
  for (int status = 0, signal = 0;; signal = WSTOPSIG(status)) {
    if (ptrace(PTRACE_SYSCALL, pid, nullptr, status >> 16 != 0 ? 0 : signal) != 0) fail("continue");
    if (waitpid(pid, &status, __WALL) != pid || !WIFSTOPPED(status)) fail("wait");
    if (WSTOPSIG(status) == system_call_stop) break;
  }
  if (ptrace(PTRACE_GETREGS, pid, nullptr, &registers) != 0) fail("read the registers");
  return registers;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) return 2;
  const pid_t pid = atoi(arguments[1]);
  int status = 0;
  if (ptrace(PTRACE_SEIZE, pid, nullptr, PTRACE_O_TRACESYSGOOD) != 0) fail("seize");
  if (ptrace(PTRACE_INTERRUPT, pid, nullptr, nullptr) != 0) fail("interrupt");
  if (waitpid(pid, &status, __WALL) != pid) fail("wait for the stop");
  puts("attached");
  fflush(stdout);
  user_regs_struct registers = next_stop(pid);
  while (registers.orig_rax != SYS_clone3) registers = next_stop(pid);
  registers.orig_rax = ~0UL;
  if (ptrace(PTRACE_SETREGS, pid, nullptr, &registers) != 0) fail("cancel the call");
  registers = next_stop(pid);
  registers.rax = static_cast<unsigned long>(-atol(arguments[2]));
  if (ptrace(PTRACE_SETREGS, pid, nullptr, &registers) != 0) fail("write the result");
  return 0;
}
