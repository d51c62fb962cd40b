// Compares the interpretation of filters with the kernel's: a child loads the same program and makes the call.
#include "monitor/setup/seccomp_filter.h"

#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <optional>
#include <random>

#include "monitor/test/unit_test.h"

namespace keelson::test {

namespace {

constexpr int asked = SYS_getpriority;  // harmless

// Whether the kernel allows getpriority(a, b); nullopt if it does not accept the program.
std::optional<bool> kernel_allows(const SeccompProgram& filter, uint64_t a, uint64_t b) {
  const pid_t pid = fork();
  if (pid == 0) {
    sock_fprog program = {static_cast<unsigned short>(filter.size()), const_cast<sock_filter*>(filter.data())};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) {
      _exit(2);
    }
    const long result = syscall(asked, a, b);
    _exit(result < 0 && errno == EUCLEAN ? 1 : 0);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) == 2) return std::nullopt;
  return WEXITSTATUS(status) == 0;
}

constexpr uint32_t refusal = SECCOMP_RET_ERRNO | EUCLEAN;

// Other calls (exit) are allowed; `body` decides about this one.
SeccompProgram around(std::initializer_list<sock_filter> body) {
  SeccompProgram filter = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, asked, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  filter.insert(filter.end(), body);
  return filter;
}

void agree(const SeccompProgram& filter, uint64_t a, uint64_t b) {
  std::optional<bool> kernel = kernel_allows(filter, a, b);
  EXPECT(kernel.has_value());
  EXPECT_EQUAL(static_cast<long>(allows(filter, asked, {a, b})), static_cast<long>(*kernel));
}

void interprets_programs_as_the_kernel_does() {
  const uint32_t low = offsetof(seccomp_data, args), high = low + 4, second = low + 8;
  std::mt19937 engine(20261124);
  auto random = [&engine] { return static_cast<uint32_t>(engine()); };
  const unsigned operations[] = {BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_AND, BPF_OR, BPF_XOR, BPF_LSH, BPF_RSH};
  const unsigned jumps[] = {BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET};
  for (int round = 0; round < 60; ++round) {
    const auto operation = static_cast<uint16_t>(operations[random() % std::size(operations)]);
    const auto jump = static_cast<uint16_t>(jumps[random() % std::size(jumps)]);
    const bool shifts = operation == BPF_LSH || operation == BPF_RSH;
    const uint32_t operand = shifts ? random() % 32 : 1 + random() % 9;
    SeccompProgram filter = around({
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, round % 2 == 0 ? low : high),
        BPF_STMT(BPF_ST, 3),
        BPF_STMT(BPF_LDX | BPF_W | BPF_IMM, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, second),
        BPF_STMT(BPF_MISC | BPF_TAX, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_MEM, 3),
        {static_cast<uint16_t>(BPF_ALU | BPF_K | operation), 0, 0, operand},
        {static_cast<uint16_t>(BPF_JMP | jump | (round % 3 == 0 ? BPF_X : BPF_K)), 0, 1, random() % 20},
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, refusal),
    });
    agree(filter, (uint64_t{random() % 20} << 32) | random() % 20, random() % 20);
  }
}

void allows_nothing_that_it_cannot_interpret() {
  EXPECT(!allows({BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 4096), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)}, asked, {}));
  EXPECT(!allows({BPF_STMT(BPF_JMP | BPF_JA, 9), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)}, asked, {}));
  EXPECT(!allows({BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)}, asked, {}));
  EXPECT(!allows({BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF)}, asked, {}));
  EXPECT(allows({BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_LOG)}, asked, {}));
  EXPECT(allows({}, asked, {}));
}

}  // namespace

std::vector<Test> seccomp_filter_tests() {
  return {
      {"seccomp filter: interprets programs as the kernel does", interprets_programs_as_the_kernel_does},
      {"seccomp filter: a program that cannot be interpreted allows nothing", allows_nothing_that_it_cannot_interpret},
  };
}

}  // namespace keelson::test
