#include "monitor/setup/descendants.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <csignal>
#include <string>
#include <vector>

#include "common/fd.h"

namespace keelson {

namespace {

constexpr size_t max_family = 4096;

void append_pids(const std::string& path, std::vector<pid_t>& pids) {
  Fd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return;
  std::string text;
  char chunk[1024];
  for (ssize_t count = 0; (count = read(file.get(), chunk, sizeof chunk)) > 0;) {
    text.append(chunk, static_cast<size_t>(count));
  }
  const char* at = text.data();
  const char* end = at + text.size();
  while (at < end && pids.size() < max_family) {
    pid_t pid = 0;
    auto [rest, code] = std::from_chars(at, end, pid);
    if (code != std::errc()) return;
    pids.push_back(pid);
    at = rest + 1;  // a blank stands behind each
  }
}

void append_children(pid_t parent, std::vector<pid_t>& pids) {
  std::string tasks = "/proc/" + std::to_string(parent) + "/task";
  DIR* directory = opendir(tasks.c_str());
  if (directory == nullptr) return;
  while (const dirent* entry = readdir(directory)) {
    if (entry->d_name[0] != '.') append_pids(tasks + "/" + entry->d_name + "/children", pids);
  }
  closedir(directory);
}

}  // namespace

void kill_with_descendants(pid_t leader) {
  // Stopped, the family's head starts nothing while we look; children are found before their parents die,
  // for an orphan is not ours to find any more.
  kill(-leader, SIGSTOP);
  std::vector<pid_t> family{leader};
  for (size_t i = 0; i < family.size(); ++i) append_children(family[i], family);
  kill(-leader, SIGKILL);
  for (pid_t pid : family) kill(pid, SIGKILL);
}

}  // namespace keelson
