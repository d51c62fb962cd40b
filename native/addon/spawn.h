// Spawns programs with given descriptors, and reaps them. Forking Node, with its large heap, would cost milliseconds.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "common/error.h"
#include "common/fd.h"

namespace keelson {

struct ProgramSpec {
  std::string file;  // searched for in our PATH if it has no slash
  std::vector<std::string> words;  // argv, with argv[0]
  std::vector<std::string> environment;
  std::string directory;
  // The program's descriptors 0, 1, 2 and so on: "null" (/dev/null), "input" (a file with the content `input`), "reads" and
  // "writes" (a pipe from or to us), "socket" (SOCK_SEQPACKET), or the number of one of our descriptors.
  std::vector<std::string> descriptors;
  std::string input;
};

struct StartedProgram {
  pid_t pid = -1;
  std::vector<Fd> pipes;  // our end for each descriptor, or no Fd if it has none
};

// Starts it as spawn_program() does. The caller must reap it.
Result<StartedProgram> start_program(const ProgramSpec& spec);

// A child of this process, whichever code started it, that has exited and is not reaped; 0 for none.
pid_t ended_child();

struct ReapedProgram {
  pid_t pid = -1;
  int code = -1;  // -1 if a signal killed it
  int signal = 0;
};

// Reaps those of our children among `pids` that have exited. One that was already reaped has code -1 and signal 0.
std::vector<ReapedProgram> reap_programs(const std::vector<pid_t>& pids);

}  // namespace keelson
