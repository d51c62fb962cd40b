// Starting a program without copying this process: posix_spawn(3) shares our memory with the child until its execve, as
// vfork(2) does, and glibc alone runs there.
#pragma once

#include <sys/types.h>

#include <span>
#include <string>
#include <vector>

namespace keelson {

struct ProgramStart {
  const std::string& file;                // without a slash it is looked for in our PATH
  const std::vector<std::string>& words;  // argv, with argv[0]
  const std::vector<std::string>& environment;
  std::string directory;             // empty: ours
  std::span<const int> descriptors;  // what it has as 0, 1, 2 and so on, each above all of these; -1 for /dev/null
};

// Starts it in a session of its own, with no signal blocked, ignored or handled; `pid` is set once it is executed. errno
// or 0. All our descriptors must be close-on-exec.
int spawn_program(const ProgramStart& start, pid_t& pid);

}  // namespace keelson
