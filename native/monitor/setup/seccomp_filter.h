// Compiled seccomp filters: reading one, and checking what it allows before it is loaded.
#pragma once

#include <linux/audit.h>
#include <linux/filter.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "common/error.h"

namespace keelson {

// The value of seccomp_data.arch.
#if defined(__x86_64__)
constexpr uint32_t own_architecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t own_architecture = AUDIT_ARCH_AARCH64;
#endif

using SeccompProgram = std::vector<sock_filter>;

// Whether the program allows a system call of this process's architecture. Interprets the program like the kernel does
// (net/core/filter.c); one that it cannot interpret allows nothing, an empty one everything.
bool allows(const SeccompProgram& program, int number, const std::array<uint64_t, 6>& arguments);

// A container's filter: read and evaluated once, when the container starts.
class SeccompFilter {
 public:
  SeccompFilter() = default;  // none
  static Result<SeccompFilter> read(const std::string& path, uint32_t flags);

  const SeccompProgram& program() const { return program_; }
  uint32_t flags() const { return flags_; }  // SECCOMP_FILTER_FLAG_* to load it with
  // Whether a process can be spawned and run its last steps under the filter (last_steps.h).
  bool lets_last_steps_pass(bool terminal) const { return passes_spawn_ && (!terminal || passes_terminal_); }

 private:
  SeccompProgram program_;
  uint32_t flags_ = 0;
  bool passes_spawn_ = true;
  bool passes_terminal_ = true;
};

}  // namespace keelson
