// What a process does last, in sight of the container when that has a PID namespace it did not make:
// session, controlling terminal, where nothing else is possible the filter, execve.
//
// All it needs lies in one mapping, its stack included, and it makes bare system calls: so a process
// that others see gets no other memory of the monitor's than its code and constants.
#pragma once

#include <sched.h>
#include <sys/types.h>

#include <string>
#include <vector>

#include "common/error.h"
#include "monitor/setup/child.h"
#include "monitor/setup/home.h"
#include "monitor/setup/seccomp_filter.h"

namespace keelson {

// The clone(2) flags of LastSteps::spawn, for whoever must know whether a filter lets it pass. The helper sleeps until
// the process has executed or died; it shares no memory with it.
constexpr uint64_t spawn_flags = CLONE_VFORK | CLONE_PARENT | CLONE_PARENT_SETTID;

struct LastStepsPlan {
  const std::vector<std::string>& args;
  const std::vector<std::string>& env;
  bool finds_home = false;  // the last of it is room_for_home(), which set_home() fills
  std::vector<std::string> candidates;  // what execve is tried on, in order
  const SeccompFilter* filter = nullptr;  // to be loaded behind no_new_privs
  bool session = false;
  bool terminal = false;  // stream 0 becomes the session's controlling terminal
};

// An entry of the environment, without its value.
std::string room_for_home();

class LastSteps {
 public:
  static Result<LastSteps> lay_out(const LastStepsPlan& plan);
  LastSteps(LastSteps&& other) noexcept;
  LastSteps& operator=(LastSteps&&) = delete;
  ~LastSteps();

  void set_home(const char (&home)[max_home]) const;

  // The calling process takes them itself.
  [[noreturn]] void take(const Child& child) const;

  // Or it spawns the process that does: first it marks all memory but this and the program's code as not
  // to be inherited, then (behind a seccomp filter perhaps) it clones the process as a child of its own parent,
  // whose id the kernel writes to `pid`, and ends when that one has executed its command or died.
  void hide_memory(const Child& child) const;
  [[noreturn]] void spawn(const Child& child, pid_t* pid) const;

 private:
  LastSteps() = default;

  char* base_ = nullptr;
  size_t size_ = 0;
};

}  // namespace keelson
