// Starting programs with files and pipes, and reaping them. A fork of Node, with its large heap, would cost milliseconds.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "common/error.h"
#include "common/fd.h"

namespace keelson {

struct ProgramSpec {
  std::string file;  // without a slash it is looked for in our PATH
  std::vector<std::string> words;  // argv, with argv[0]
  std::vector<std::string> environment;
  std::string directory;
  // What the program has as descriptors 0, 1, 2 and so on: "null" (/dev/null), "input" (`input`, from its beginning),
  // "reads" and "writes" (a pipe from or to us), "socket" (SOCK_SEQPACKET), or the number of a descriptor of ours.
  std::vector<std::string> descriptors;
  std::string input;
};

struct StartedProgram {
  pid_t pid = -1;
  std::vector<Fd> pipes;  // our ends, one for each descriptor; no Fd where there is none
};

// Starts it as spawn_program() does. Who starts it must reap it.
Result<StartedProgram> start_program(const ProgramSpec& spec);

// A child of ours, whoever started it, that has ended and is not reaped; 0 for none.
pid_t ended_child();

struct ReapedProgram {
  pid_t pid = -1;
  int code = -1;  // -1 for a death by signal
  int signal = 0;
};

// Those of our children among `pids` that have ended. One that somebody else has reaped has code -1 and signal 0.
std::vector<ReapedProgram> reap_programs(const std::vector<pid_t>& pids);

}  // namespace keelson
