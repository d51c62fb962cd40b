// For life.test.ts: an attacker in a container with CAP_SYS_PTRACE. Makes process 1 of its PID namespace open a socket, by
// ptrace(2), and prints "result N", the call's result there. With "spin", makes that process loop forever. For x86-64 only.
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <stdio.h>

namespace {

constexpr pid_t victim = 1;
constexpr unsigned long length_of_syscall_instruction = 2;

int fail(const char* what) {
  perror(what);
  return 1;
}

}  // namespace

int main(int count, char**) {
  int status = 0;
  user_regs_struct registers = {};
  if (ptrace(PTRACE_SEIZE, victim, nullptr, nullptr) != 0) return fail("seize");
  if (ptrace(PTRACE_INTERRUPT, victim, nullptr, nullptr) != 0) return fail("interrupt");
  if (waitpid(victim, &status, __WALL) != victim || !WIFSTOPPED(status)) return fail("wait for the stop");
  if (ptrace(PTRACE_GETREGS, victim, nullptr, &registers) != 0) return fail("read the registers");
  // The process is waiting in a system call, so the instruction before the next one is the syscall instruction.
  registers.rip -= length_of_syscall_instruction;
  registers.orig_rax = ~0UL;  // otherwise the kernel would restart the interrupted call
  if (count > 1) {
    constexpr long jump_to_itself = 0xfeeb;
    if (ptrace(PTRACE_POKETEXT, victim, registers.rip, jump_to_itself) != 0) return fail("write the code");
    if (ptrace(PTRACE_SETREGS, victim, nullptr, &registers) != 0) return fail("write the registers");
    return ptrace(PTRACE_DETACH, victim, nullptr, nullptr) == 0 ? 0 : fail("detach");
  }
  registers.rax = SYS_socket;
  registers.rdi = AF_UNIX;
  registers.rsi = SOCK_STREAM;
  registers.rdx = 0;
  if (ptrace(PTRACE_SETREGS, victim, nullptr, &registers) != 0) return fail("write the registers");
  puts("injected");
  fflush(stdout);
  if (ptrace(PTRACE_SINGLESTEP, victim, nullptr, nullptr) != 0) return fail("step");
  if (waitpid(victim, &status, __WALL) != victim) return fail("wait for the result");
  if (!WIFSTOPPED(status)) return 0;
  if (ptrace(PTRACE_GETREGS, victim, nullptr, &registers) != 0) return fail("read the result");
  printf("result %lld\n", static_cast<long long>(registers.rax));
  return 0;
}
