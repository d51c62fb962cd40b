#include "addon/seccomp.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "common/fd.h"
#include "common/file.h"
#include "common/json.h"

namespace keelson {

namespace {

// BPF_MAXINSNS instructions of 8 bytes: the most that the kernel loads.
constexpr size_t longest_program = 4096 * 8;

struct FilterRelease {
  void operator()(void* filter) const { seccomp_release(filter); }
};
using Filter = std::unique_ptr<void, FilterRelease>;

std::unexpected<Error> wrong(std::string detail) { return fail(Kind::invalid, "compile seccomp profile", std::move(detail)); }

std::unexpected<Error> too_long() { return wrong("the program has more than 4096 instructions"); }

// libseccomp returns negative errno values.
std::unexpected<Error> refused(std::string step, int answer) {
  return std::unexpected(Error{Kind::system, std::move(step), {}, -answer, "libseccomp"});
}

Result<uint32_t> parse_action(std::string_view name, const Json& errno_value) {
  int64_t number = errno_value.integer(EPERM);
  if (number < 0 || number > 4095) return wrong("errnoRet " + std::to_string(number) + " is not an errno");
  if (name == "SCMP_ACT_ALLOW") return SCMP_ACT_ALLOW;
  if (name == "SCMP_ACT_ERRNO") return SCMP_ACT_ERRNO(static_cast<uint16_t>(number));
  if (name == "SCMP_ACT_LOG") return SCMP_ACT_LOG;
  if (name == "SCMP_ACT_TRAP") return SCMP_ACT_TRAP;
  if (name == "SCMP_ACT_TRACE") return SCMP_ACT_TRACE(static_cast<uint16_t>(number));
  if (name == "SCMP_ACT_KILL" || name == "SCMP_ACT_KILL_THREAD") return SCMP_ACT_KILL_THREAD;
  if (name == "SCMP_ACT_KILL_PROCESS") return SCMP_ACT_KILL_PROCESS;
  return wrong("action \"" + std::string(name) + "\" is not supported");
}

std::optional<scmp_compare> parse_operator(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, scmp_compare>, 7> operators{{
      {"SCMP_CMP_NE", SCMP_CMP_NE},
      {"SCMP_CMP_LT", SCMP_CMP_LT},
      {"SCMP_CMP_LE", SCMP_CMP_LE},
      {"SCMP_CMP_EQ", SCMP_CMP_EQ},
      {"SCMP_CMP_GE", SCMP_CMP_GE},
      {"SCMP_CMP_GT", SCMP_CMP_GT},
      {"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ},
  }};
  for (const auto& [known, comparison] : operators) {
    if (known == name) return comparison;
  }
  return std::nullopt;
}

// The flags are for the process that loads the program.
Status check_flags(const Json& flags) {
  constexpr std::string_view known[] = {"SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"};
  for (const Json& flag : flags.items()) {
    if (std::ranges::find(known, flag.string()) != std::end(known)) continue;
    return wrong("flag \"" + std::string(flag.string()) + "\" is not supported");
  }
  return {};
}

// The machine's architecture is always included; the profile may add compatible ones. Returns libseccomp's tokens of them
// all.
Result<std::vector<uint32_t>> add_architectures(void* filter, const Json& architectures) {
  constexpr std::string_view prefix = "SCMP_ARCH_";
  std::vector<uint32_t> all{seccomp_arch_native()};
  for (const Json& item : architectures.items()) {
    std::string name(item.string());
    uint32_t token = 0;
    if (name.starts_with(prefix)) {
      std::string lower = name.substr(prefix.size());
      for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
      token = seccomp_arch_resolve_name(lower.c_str());
    }
    if (token == 0) return wrong("architecture \"" + name + "\" is unknown");
    int answer = seccomp_arch_add(filter, token);
    if (answer != 0 && answer != -EEXIST) return refused("add architecture " + name, answer);
    if (answer == 0) all.push_back(token);
  }
  return all;
}

// A missing value is 0. common/json.h reads integers up to 2^63 - 1; a larger one must not turn into another number.
Result<scmp_datum_t> parse_datum(const Json& value) {
  if (value.is_null()) return 0;
  int64_t number = value.integer(-1);
  if (number < 0) return wrong("an argument is compared with a number that is not between 0 and 2^63 - 1");
  return static_cast<scmp_datum_t>(number);
}

Result<std::vector<scmp_arg_cmp>> parse_arguments(const Json& arguments) {
  std::vector<scmp_arg_cmp> comparisons;
  for (const Json& argument : arguments.items()) {
    int64_t index = argument["index"].integer(-1);
    std::optional<scmp_compare> comparison = parse_operator(argument["op"].string());
    if (index < 0 || index > 5) return wrong("argument index " + std::to_string(index) + " is not between 0 and 5");
    if (!comparison) return wrong("operator \"" + std::string(argument["op"].string()) + "\" is unknown");
    scmp_datum_t value = TRY(parse_datum(argument["value"]));
    scmp_datum_t second_value = TRY(parse_datum(argument["valueTwo"]));
    comparisons.push_back({static_cast<unsigned>(index), *comparison, value, second_value});
  }
  return comparisons;
}

bool compares_one_argument_twice(const std::vector<scmp_arg_cmp>& comparisons) {
  std::array<int, 6> seen{};
  return std::ranges::any_of(comparisons, [&](const scmp_arg_cmp& one) { return ++seen[one.arg] > 1; });
}

// libseccomp combines a rule's comparisons with "and" and accepts only one for each argument. A rule that compares an
// argument twice means "or" in all runtimes.
int add_rule(void* filter, uint32_t action, int number, const std::vector<scmp_arg_cmp>& comparisons) {
  if (!compares_one_argument_twice(comparisons)) {
    return seccomp_rule_add_array(filter, action, number, static_cast<unsigned>(comparisons.size()), comparisons.data());
  }
  for (const scmp_arg_cmp& one : comparisons) {
    if (int answer = seccomp_rule_add_array(filter, action, number, 1, &one); answer != 0) return answer;
  }
  return 0;
}

Status add_rules(void* filter, uint32_t default_action, const Json& rules) {
  for (const Json& rule : rules.items()) {
    uint32_t action = TRY(parse_action(rule["action"].string(), rule["errnoRet"]));
    std::vector<scmp_arg_cmp> comparisons = TRY(parse_arguments(rule["args"]));
    if (action == default_action) continue;  // libseccomp refuses rules without effect
    for (const Json& item : rule["names"].items()) {
      std::string name(item.string());
      int number = seccomp_syscall_resolve_name(name.c_str());
      if (number == __NR_SCMP_ERROR) continue;
      int answer = add_rule(filter, action, number, comparisons);
      if (answer != 0) return refused("add a rule for system call " + name, answer);
    }
  }
  return {};
}

// libseccomp 2.5 can write a program only to a descriptor.
Result<std::string> export_program(void* filter) {
  Fd file(::memfd_create("seccomp", MFD_CLOEXEC));
  if (!file) return fail_errno("create a memory file");
  if (int answer = seccomp_export_bpf(filter, file.get()); answer != 0) return refused("write the program", answer);
  if (::lseek(file.get(), 0, SEEK_SET) != 0) return fail_errno("rewind the program");
  Result<std::string> program = read_to_end(file.get(), longest_program, "the program");
  if (!program && program.error().kind == Kind::invalid) return too_long();
  return program;
}

// The system calls of one architecture that a profile names: the highest number, and the top of the architecture's range.
struct Numbers {
  uint32_t architecture = 0;  // seccomp_data.arch
  uint32_t last = 0;
  uint32_t top = UINT32_MAX;
};

constexpr uint32_t x32_bit = 0x40000000;  // x32 system calls are x86_64 ones with this bit set in the number

std::optional<Numbers> numbers_named(uint32_t architecture, const Json& rules) {
  int last = -1;
  for (const Json& rule : rules.items()) {
    for (const Json& item : rule["names"].items()) {
      // Negative if the architecture has no system call of that name.
      last = std::max(last, seccomp_syscall_resolve_name_arch(architecture, std::string(item.string()).c_str()));
    }
  }
  if (last < 0) return std::nullopt;
  Numbers numbers{architecture == SCMP_ARCH_X32 ? SCMP_ARCH_X86_64 : architecture, static_cast<uint32_t>(last)};
  if (architecture == SCMP_ARCH_X86_64) numbers.top = x32_bit - 1;
  return numbers;
}

bool lets_unnamed_pass(uint32_t default_action) {
  return default_action == SCMP_ACT_ALLOW || default_action == SCMP_ACT_LOG ||
         (default_action & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_TRACE;
}

// Makes system calls that are newer than all those the profile names fail with ENOSYS, as runc does. The profile's author
// did not know them, and a program that tries a new call first falls back to an older one only on ENOSYS.
void put_before(std::string& program, const Numbers& numbers) {
  const sock_filter check[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, numbers.architecture, 0, 4),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, numbers.last, 0, 2),
      BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, numbers.top, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
  };
  program.insert(0, reinterpret_cast<const char*>(check), sizeof check);
}

Result<std::string> compile(std::string_view profile_json) {
  Json profile = TRY(parse_json(profile_json));
  if (!profile.is_object()) return wrong("it is not a JSON object");
  uint32_t default_action = TRY(parse_action(profile["defaultAction"].string(), profile["defaultErrnoRet"]));
  TRY(check_flags(profile["flags"]));

  Filter filter(seccomp_init(default_action));
  if (!filter) return wrong("libseccomp does not accept the default action");
  // 2: a binary tree of system call numbers. A linear list would be searched on every call.
  if (int answer = seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2); answer != 0) {
    return refused("enable the binary tree", answer);
  }
  const std::vector<uint32_t> architectures = TRY(add_architectures(filter.get(), profile["architectures"]));
  TRY(add_rules(filter.get(), default_action, profile["syscalls"]));
  std::string program = TRY(export_program(filter.get()));
  if (lets_unnamed_pass(default_action) || default_action == SCMP_ACT_ERRNO(ENOSYS)) return program;
  for (uint32_t architecture : architectures) {
    if (const auto numbers = numbers_named(architecture, profile["syscalls"])) put_before(program, *numbers);
  }
  if (program.size() > longest_program) return too_long();
  return program;
}

}  // namespace

Result<std::string> compile_seccomp(std::string_view profile_json) {
  return about(compile(profile_json), "seccomp profile");
}

}  // namespace keelson
