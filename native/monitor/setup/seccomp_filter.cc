// Reading and interpreting seccomp filters. Sources: seccomp(2), Documentation/networking/filter.rst.
#include "monitor/setup/seccomp_filter.h"

#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <optional>

#include "common/file.h"
#include "monitor/setup/last_steps.h"

namespace keelson {

namespace {

// An interpreter of classic BPF programs on a seccomp_data.
class Machine {
 public:
  Machine(const SeccompProgram& filter, const seccomp_data& data) : filter_(filter), data_(data) {}

  // The return value of the program; nullopt if it goes out of bounds. It only jumps forward, so it terminates.
  std::optional<uint32_t> run() {
    for (size_t at = 0; at < filter_.size(); ++at) {
      const sock_filter& step = filter_[at];
      const uint32_t operand = BPF_SRC(step.code) == BPF_X ? index_ : step.k;
      switch (BPF_CLASS(step.code)) {
        case BPF_RET: return BPF_RVAL(step.code) == BPF_A ? accumulator_ : step.k;
        case BPF_LD:
          if (!load(step, accumulator_)) return std::nullopt;
          break;
        case BPF_LDX:
          if (!load(step, index_)) return std::nullopt;
          break;
        case BPF_ST:
        case BPF_STX:
          if (step.k >= memory_.size()) return std::nullopt;
          memory_[step.k] = BPF_CLASS(step.code) == BPF_ST ? accumulator_ : index_;
          break;
        case BPF_ALU:
          if (!calculate(BPF_OP(step.code), operand)) return std::nullopt;
          break;
        case BPF_JMP: at += jump(step, operand); break;
        case BPF_MISC: (BPF_MISCOP(step.code) == BPF_TAX ? index_ : accumulator_) =
              BPF_MISCOP(step.code) == BPF_TAX ? accumulator_ : index_;
      }
    }
    return std::nullopt;
  }

 private:
  bool load(const sock_filter& step, uint32_t& to) const {
    switch (BPF_MODE(step.code)) {
      case BPF_IMM: to = step.k; return true;
      case BPF_LEN: to = sizeof data_; return true;
      case BPF_MEM:
        if (step.k >= memory_.size()) return false;
        to = memory_[step.k];
        return true;
      case BPF_ABS:
        if (step.k > sizeof data_ - sizeof to) return false;
        memcpy(&to, reinterpret_cast<const char*>(&data_) + step.k, sizeof to);
        return true;
      default: return false;
    }
  }

  bool calculate(unsigned operation, uint32_t operand) {
    uint32_t& a = accumulator_;
    switch (operation) {
      case BPF_ADD: a += operand; return true;
      case BPF_SUB: a -= operand; return true;
      case BPF_MUL: a *= operand; return true;
      case BPF_DIV: return operand != 0 && (a /= operand, true);
      case BPF_AND: a &= operand; return true;
      case BPF_OR: a |= operand; return true;
      case BPF_XOR: a ^= operand; return true;
      case BPF_LSH: a = operand < 32 ? a << operand : 0; return true;
      case BPF_RSH: a = operand < 32 ? a >> operand : 0; return true;
      case BPF_NEG: a = -a; return true;
      default: return false;
    }
  }

  size_t jump(const sock_filter& step, uint32_t operand) const {
    switch (BPF_OP(step.code)) {
      case BPF_JA: return step.k;
      case BPF_JEQ: return accumulator_ == operand ? step.jt : step.jf;
      case BPF_JGT: return accumulator_ > operand ? step.jt : step.jf;
      case BPF_JGE: return accumulator_ >= operand ? step.jt : step.jf;
      case BPF_JSET: return (accumulator_ & operand) != 0 ? step.jt : step.jf;
      default: return filter_.size();
    }
  }

  const SeccompProgram& filter_;
  const seccomp_data& data_;
  uint32_t accumulator_ = 0;
  uint32_t index_ = 0;
  std::array<uint32_t, BPF_MEMWORDS> memory_{};
};

}  // namespace

bool allows(const SeccompProgram& program, int number, const std::array<uint64_t, 6>& arguments) {
  seccomp_data data = {};
  data.nr = number;
  data.arch = own_architecture;
  memcpy(data.args, arguments.data(), sizeof data.args);
  const std::optional<uint32_t> verdict = Machine(program, data).run();
  if (!verdict) return program.empty();
  const uint32_t action = *verdict & SECCOMP_RET_ACTION_FULL;
  return action == SECCOMP_RET_ALLOW || action == SECCOMP_RET_LOG;
}

Result<SeccompFilter> SeccompFilter::read(const std::string& path, uint32_t flags) {
  const std::string code = TRY(read_file(path, BPF_MAXINSNS * sizeof(sock_filter)));
  if (code.empty() || code.size() % sizeof(sock_filter) != 0) {
    return fail(Kind::invalid, "read the seccomp filter " + path, "it is not a compiled filter");
  }
  SeccompFilter filter;
  filter.flags_ = flags;
  filter.program_.resize(code.size() / sizeof(sock_filter));
  memcpy(filter.program_.data(), code.data(), code.size());
  filter.passes_spawn_ = allows(filter.program_, SYS_clone, {spawn_flags}) && allows(filter.program_, SYS_setsid, {});
  filter.passes_terminal_ = allows(filter.program_, SYS_ioctl, {0, TIOCSCTTY});
  return filter;
}

}  // namespace keelson
