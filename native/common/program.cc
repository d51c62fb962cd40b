#include "common/program.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>

#include <cstring>

namespace keelson {

namespace {

std::vector<char*> pointers(const std::vector<std::string>& words) {
  std::vector<char*> all;
  for (const std::string& word : words) all.push_back(const_cast<char*>(word.c_str()));
  all.push_back(nullptr);
  return all;
}

int set_actions(posix_spawn_file_actions_t& actions, const ProgramStart& start) {
  for (int number = 0; number < static_cast<int>(start.descriptors.size()); ++number) {
    const int ours = start.descriptors[static_cast<size_t>(number)];
    const int error = ours < 0 ? posix_spawn_file_actions_addopen(&actions, number, "/dev/null", O_RDWR, 0)
                               : posix_spawn_file_actions_adddup2(&actions, ours, number);
    if (error != 0) return error;
  }
  return start.directory.empty() ? 0 : posix_spawn_file_actions_addchdir_np(&actions, start.directory.c_str());
}

// In glibc none of these calls can fail.
void set_attributes(posix_spawnattr_t& attributes) {
  sigset_t signals;
  // Includes the two that libc reserves (signal(7)), which sigfillset leaves out: the program would ignore them otherwise.
  memset(&signals, 0xff, sizeof signals);
  posix_spawnattr_setsigdefault(&attributes, &signals);
  sigemptyset(&signals);
  posix_spawnattr_setsigmask(&attributes, &signals);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
}

}  // namespace

int spawn_program(const ProgramStart& start, pid_t& pid) {
  const std::vector<char*> words = pointers(start.words), environment = pointers(start.environment);
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  set_attributes(attributes);
  int error = set_actions(actions, start);
  if (error == 0) {
    error = posix_spawnp(&pid, start.file.c_str(), &actions, &attributes, words.data(), environment.data());
  }
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  return error;
}

}  // namespace keelson
