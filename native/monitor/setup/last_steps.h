// The last steps of a process: session, controlling terminal, the filter if it cannot be loaded earlier, execve. In a
// PID namespace that existed before, processes of the container can see them.
//
// Everything they need, including the stack, is in one mapping, and they use bare system calls, so that a process that
// others can see gets no memory of the monitor except its code and constants.
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

// The clone(2) flags of LastSteps::spawn, also used to check whether a filter allows it. The helper sleeps until the
// process has executed or died; they share no memory.
constexpr uint64_t spawn_flags = CLONE_VFORK | CLONE_PARENT | CLONE_PARENT_SETTID;

struct LastStepsPlan {
  const std::vector<std::string>& args;
  const std::vector<std::string>& env;
  bool finds_home = false;  // the last entry of `env` is room_for_home(), which set_home() fills
  std::vector<std::string> candidates;  // paths tried with execve, in order
  const SeccompFilter* filter = nullptr;  // to be loaded after no_new_privs
  bool session = false;
  bool terminal = false;  // stream 0 becomes the session's controlling terminal
};

// The environment entry HOME with space for its value.
std::string room_for_home();

class LastSteps {
 public:
  static Result<LastSteps> lay_out(const LastStepsPlan& plan);
  LastSteps(LastSteps&& other) noexcept;
  LastSteps& operator=(LastSteps&&) = delete;
  ~LastSteps();

  void set_home(const char (&home)[max_home]) const;

  // Runs the last steps in the calling process.
  [[noreturn]] void take(const Child& child) const;

  // Alternatively spawns a process that runs them: hide_memory() marks all memory except this and the program's code as
  // not inherited; then spawn() (possibly under a seccomp filter) clones the process as a child of the caller's parent,
  // with its id written to `pid` by the kernel, and exits once that process has executed its command or died.
  void hide_memory(const Child& child) const;
  [[noreturn]] void spawn(const Child& child, pid_t* pid) const;

 private:
  LastSteps() = default;

  char* base_ = nullptr;
  size_t size_ = 0;
};

}  // namespace keelson
