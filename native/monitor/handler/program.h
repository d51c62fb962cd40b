// Runs a helper program (an OCI runtime binary) beside the loop, with a deadline.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "monitor/setup/process.h"
#include "monitor/server/reaper.h"

namespace keelson {

struct ProgramStdio {
  int in = -1;  // -1: /dev/null
  int out = -1;
  int err = -1;
};

struct ProgramEnd {
  std::optional<Error> killed;  // why we did that
  ProcessExit exit;
};

// Spawns `argv` (an absolute path first) in a process group of its own; `done` gets its end. At the time limit, or
// when it is broken off, it is killed with all it has begun.
// The descriptors are copied and may be closed when this returns.
std::weak_ptr<Attempt> run_program(Loop& loop, Reaper& reaper, const std::vector<std::string>& argv,
                                   ProgramStdio stdio, std::chrono::milliseconds limit,
                                   Done<ProgramEnd> done);

}  // namespace keelson
