// Spawns a program without copying this process: with posix_spawn(3) the child shares our memory until its execve, as with
// vfork(2), and runs only glibc code until then.
#pragma once

#include <sys/types.h>

#include <span>
#include <string>
#include <vector>

namespace keelson {

struct ProgramStart {
  const std::string& file;                // searched for in our PATH if it has no slash
  const std::vector<std::string>& words;  // argv, with argv[0]
  const std::vector<std::string>& environment;
  std::string directory;             // empty: ours
  std::span<const int> descriptors;  // its 0, 1, 2 and so on; each must be above those numbers, or -1 for /dev/null
};

// Starts it in its own session, with no signal blocked, ignored or handled. `pid` is set once it has executed. Returns
// 0 or an errno. All our descriptors must be close-on-exec.
int spawn_program(const ProgramStart& start, pid_t& pid);

}  // namespace keelson
