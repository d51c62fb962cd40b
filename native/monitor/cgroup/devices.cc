// Sources: config-linux.md (Allowed Device list), cgroup-v1/devices.rst, cgroup-v2.rst ("Device controller"),
// bpf(2), struct bpf_cgroup_dev_ctx in linux/bpf.h.
#include "monitor/cgroup/devices.h"

#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <iterator>

#include "common/fd.h"

namespace keelson {

namespace {

// The device nodes of every container, its ptys and console; and mknod of any device, which gives no access to it.
const DeviceRule rights[] = {
    {true, 'c', DeviceRule::any, DeviceRule::any, false, false, true},
    {true, 'b', DeviceRule::any, DeviceRule::any, false, false, true},
    {true, 'c', 1, 3, true, true, true},
    {true, 'c', 1, 5, true, true, true},
    {true, 'c', 1, 7, true, true, true},
    {true, 'c', 1, 8, true, true, true},
    {true, 'c', 1, 9, true, true, true},
    {true, 'c', 5, 0, true, true, true},
    {true, 'c', 5, 2, true, true, true},
    {true, 'c', 136, DeviceRule::any, true, true, true},
};

std::string number_or_star(int64_t number) { return number == DeviceRule::any ? "*" : std::to_string(number); }

}  // namespace

Result<std::vector<DeviceRule>> parse_device_rules(const Json& devices) {
  std::vector<DeviceRule> rules;
  for (const Json& item : devices.items()) {
    DeviceRule rule;
    rule.allow = item["allow"].boolean();
    std::string_view type = item["type"].string("a");
    if (type != "a" && type != "b" && type != "c") {
      return fail(Kind::invalid, "read the device rules", "type \"" + std::string(type) + "\" is not one of a, b, c");
    }
    rule.type = type[0];
    rule.major = item["major"].integer(DeviceRule::any);
    rule.minor = item["minor"].integer(DeviceRule::any);
    for (char access : item["access"].string("rwm")) {
      if (access == 'r') rule.read = true;
      else if (access == 'w') rule.write = true;
      else if (access == 'm') rule.mknod = true;
      else return fail(Kind::invalid, "read the device rules", "access may contain only the letters r, w, m");
    }
    rules.push_back(rule);
  }
  // Rules after the last denial are in effect.
  const auto refused = std::find_if(rules.rbegin(), rules.rend(), [](const DeviceRule& rule) { return !rule.allow; });
  const std::vector<DeviceRule> granted(refused.base(), rules.end());
  std::ranges::copy_if(rights, std::back_inserter(rules),
                       [&](const DeviceRule& right) { return std::ranges::find(granted, right) == granted.end(); });
  return rules;
}

std::string to_v1_line(const DeviceRule& rule) {
  // "a" means all devices and all access, regardless of what follows.
  if (rule.type == 'a') return "a";
  std::string line = {rule.type, ' '};
  line += number_or_star(rule.major) + ":" + number_or_star(rule.minor) + " ";
  if (rule.read) line += 'r';
  if (rule.write) line += 'w';
  if (rule.mknod) line += 'm';
  return line;
}

namespace {

constexpr uint32_t max_programs = 64;  // the kernel's own limit for one cgroup and hook

// Registers of the program; type to minor_number describe the access that is checked.
enum Register : uint8_t { result = BPF_REG_0, context = BPF_REG_1, type = BPF_REG_2, access = BPF_REG_3,
                          major_number = BPF_REG_4, minor_number = BPF_REG_5, scratch = BPF_REG_6 };

bpf_insn instruction(int code, uint8_t to, uint8_t from, int16_t offset, int32_t value) {
  bpf_insn made = {};
  made.code = static_cast<uint8_t>(code);
  made.dst_reg = to & 0xf;
  made.src_reg = from & 0xf;
  made.off = offset;
  made.imm = value;
  return made;
}

int bpf(int command, bpf_attr& attributes) {
  return static_cast<int>(syscall(SYS_bpf, command, &attributes, sizeof attributes));
}

// A program of type BPF_PROG_TYPE_CGROUP_DEVICE.
class Program {
 public:
  Program() {
    // access_type is (access << 16) | type.
    load(type, offsetof(bpf_cgroup_dev_ctx, access_type));
    add(instruction(BPF_ALU | BPF_MOV | BPF_X, access, type, 0, 0));
    add(instruction(BPF_ALU | BPF_AND | BPF_K, type, 0, 0, 0xffff));
    add(instruction(BPF_ALU | BPF_RSH | BPF_K, access, 0, 0, 16));
    load(major_number, offsetof(bpf_cgroup_dev_ctx, major));
    load(minor_number, offsetof(bpf_cgroup_dev_ctx, minor));
  }

  // Emits code that returns the verdict if the rule matches the access, else continues with the next rule.
  void rule(const DeviceRule& rule) {
    if (rule.type == 'a') return answer(rule.allow);
    std::vector<bpf_insn> tests;
    tests.push_back(unless_equal(type, rule.type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR));
    const int asked = (rule.mknod ? BPF_DEVCG_ACC_MKNOD : 0) | (rule.read ? BPF_DEVCG_ACC_READ : 0) |
                      (rule.write ? BPF_DEVCG_ACC_WRITE : 0);
    constexpr int all = BPF_DEVCG_ACC_MKNOD | BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE;
    if (asked != all) {
      tests.push_back(instruction(BPF_ALU | BPF_MOV | BPF_X, scratch, access, 0, 0));
      if (rule.allow) {
        // An allow rule must cover all of the requested access …
        tests.push_back(instruction(BPF_ALU | BPF_AND | BPF_K, scratch, 0, 0, all & ~asked));
        tests.push_back(instruction(BPF_JMP | BPF_JNE | BPF_K, scratch, 0, 0, 0));
      } else {
        // … a deny rule matches if it covers any of it.
        tests.push_back(instruction(BPF_ALU | BPF_AND | BPF_K, scratch, 0, 0, asked));
        tests.push_back(instruction(BPF_JMP | BPF_JEQ | BPF_K, scratch, 0, 0, 0));
      }
    }
    if (rule.major != DeviceRule::any) tests.push_back(unless_equal(major_number, static_cast<int32_t>(rule.major)));
    if (rule.minor != DeviceRule::any) tests.push_back(unless_equal(minor_number, static_cast<int32_t>(rule.minor)));
    for (size_t at = 0; at < tests.size(); ++at) {
      // Jump past the remaining tests and the two instructions of answer().
      if (BPF_CLASS(tests[at].code) == BPF_JMP) tests[at].off = static_cast<int16_t>(tests.size() - at - 1 + 2);
      add(tests[at]);
    }
    answer(rule.allow);
  }

  void answer(bool allow) {
    add(instruction(BPF_ALU64 | BPF_MOV | BPF_K, result, 0, 0, allow ? 1 : 0));
    add(instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
  }

  Result<Fd> into_kernel() const {
    static constexpr char license[] = "Apache-2.0";
    bpf_attr attributes = {};
    attributes.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
    attributes.insns = reinterpret_cast<uint64_t>(code_.data());
    attributes.insn_cnt = static_cast<uint32_t>(code_.size());
    attributes.license = reinterpret_cast<uint64_t>(license);
    Fd program(bpf(BPF_PROG_LOAD, attributes));
    if (!program) return fail_errno("load the device program");
    return program;
  }

 private:
  void add(const bpf_insn& made) { code_.push_back(made); }
  void load(uint8_t to, size_t offset) {
    add(instruction(BPF_LDX | BPF_MEM | BPF_W, to, context, static_cast<int16_t>(offset), 0));
  }
  static bpf_insn unless_equal(uint8_t field, int32_t value) {
    return instruction(BPF_JMP | BPF_JNE | BPF_K, field, 0, 0, value);
  }

  std::vector<bpf_insn> code_;
};

Result<std::vector<uint32_t>> attached_programs(int cgroup) {
  std::vector<uint32_t> ids(max_programs);
  bpf_attr attributes = {};
  attributes.query.target_fd = static_cast<uint32_t>(cgroup);
  attributes.query.attach_type = BPF_CGROUP_DEVICE;
  attributes.query.prog_ids = reinterpret_cast<uint64_t>(ids.data());
  attributes.query.prog_cnt = max_programs;
  if (bpf(BPF_PROG_QUERY, attributes) != 0) {
    return fail_errno("list the cgroup's device programs");
  }
  ids.resize(attributes.query.prog_cnt);
  return ids;
}

Status detach(int cgroup, uint32_t id) {
  bpf_attr attributes = {};
  attributes.prog_id = id;
  Fd program(bpf(BPF_PROG_GET_FD_BY_ID, attributes));
  if (!program) return fail_errno("open the cgroup's old device program");
  attributes = {};
  attributes.target_fd = static_cast<uint32_t>(cgroup);
  attributes.attach_bpf_fd = static_cast<uint32_t>(program.get());
  attributes.attach_type = BPF_CGROUP_DEVICE;
  if (bpf(BPF_PROG_DETACH, attributes) != 0) {
    return fail_errno("detach the cgroup's old device program");
  }
  return {};
}

}  // namespace

Status attach_device_filter(int cgroup, const std::vector<DeviceRule>& rules) {
  Program program;
  // The last matching rule decides, so the program checks them in reverse order.
  bool decided = false;  // by a rule for all devices; the verifier refuses unreachable code
  for (auto rule = rules.rbegin(); rule != rules.rend() && !decided; ++rule) {
    program.rule(*rule);
    decided = rule->type == 'a';
  }
  if (!decided) program.answer(true);  // devices without a rule stay allowed
  const Fd loaded = TRY(program.into_kernel());
  const std::vector<uint32_t> old = TRY(attached_programs(cgroup));

  bpf_attr attributes = {};
  attributes.target_fd = static_cast<uint32_t>(cgroup);
  attributes.attach_bpf_fd = static_cast<uint32_t>(loaded.get());
  attributes.attach_type = BPF_CGROUP_DEVICE;
  attributes.attach_flags = BPF_F_ALLOW_MULTI;
  if (bpf(BPF_PROG_ATTACH, attributes) != 0) {
    return fail_errno("attach the device program to the cgroup");
  }
  // Access needs the consent of all programs of a cgroup: between attach and detach the stricter one applies.
  for (uint32_t id : old) TRY(detach(cgroup, id));
  return {};
}

}  // namespace keelson
