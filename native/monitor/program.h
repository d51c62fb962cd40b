// Runs a helper program (an OCI runtime binary) beside the loop, with a deadline.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "reaper.h"

namespace keelson {

struct ProgramStdio {
  int in = -1;  // -1: /dev/null
  int out = -1;
  int err = -1;
};

struct ProgramEnd {
  bool timed_out = false;  // and killed
  ProcessExit exit;
};

// Spawns `argv` (an absolute path first) in a process group of its own; `done` gets its end.
// The descriptors are copied and may be closed when this returns.
void run_program(Loop& loop, Reaper& reaper, const std::vector<std::string>& argv, ProgramStdio stdio,
                 std::chrono::milliseconds limit, std::move_only_function<void(Result<ProgramEnd>)> done);

}  // namespace keelson
