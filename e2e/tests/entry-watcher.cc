// An attacker inside a container, for e2e/tests/enter.test.ts: with CAP_SYS_PTRACE it looks at every process that appears in
// its PID namespace, as early as it can, and writes down what that one has beyond its spec.
//
//   entry-watcher <seconds> <inh> <prm> <eff> <bnd> <amb> <no_new_privs> <seccomp> <secret> <host file>
//   entry-watcher stop    sends SIGSTOP to every process that appears, instead
//
// The capability sets are the spec's, in hex. <secret> stands in the environment of another container, so in no
// memory of a process on its way into this one; <host file> exists in the host's root and in no container's. A process that is seen before its
// execve still has the monitor for its program. At SIGTERM, or after <seconds>, it prints one JSON object:
// {"seen": n, "early": n, "seized": n, "findings": ["…"]}
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>
#include <vector>

namespace {

constexpr size_t most_findings = 20;
constexpr const char* sets[] = {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"};

struct Spec {
  unsigned long long capabilities[5];
  int no_new_privs, seccomp;
  std::string secret, host_file;
};

struct Tally {
  long seen = 0, early = 0, seized = 0;
  std::set<std::string> findings;

  void found(std::string what) {
    if (findings.size() < most_findings) findings.insert(std::move(what));
  }
};

std::string read_at(int directory, const char* name) {
  std::string text;
  int file = openat(directory, name, O_RDONLY | O_CLOEXEC);
  char chunk[4096];
  for (ssize_t size; file >= 0 && (size = read(file, chunk, sizeof chunk)) > 0;) text.append(chunk, size);
  if (file >= 0) close(file);
  return text;
}

std::string field(const std::string& status, const char* name) {
  size_t at = status.find(std::string("\n") + name + ":");
  if (at == status.npos) return {};
  at = status.find_first_not_of(" \t", status.find(':', at) + 1);
  return status.substr(at, status.find('\n', at) - at);
}

bool is_monitor(int directory) {
  char program[256] = {};
  return readlinkat(directory, "exe", program, sizeof program - 1) > 0 && strstr(program, "monitor") != nullptr;
}

void look_at_status(const std::string& status, const Spec& spec, Tally& tally, const char* when) {
  for (int at = 0; at < 5; ++at) {
    unsigned long long has = strtoull(field(status, sets[at]).c_str(), nullptr, 16);
    if ((has & ~spec.capabilities[at]) != 0) tally.found(std::string(sets[at]) + " " + field(status, sets[at]) + when);
  }
  if (atoi(field(status, "NoNewPrivs").c_str()) != spec.no_new_privs) tally.found(std::string("NoNewPrivs") + when);
  if (atoi(field(status, "Seccomp").c_str()) != spec.seccomp) tally.found("Seccomp " + field(status, "Seccomp") + when);
}

void look_at_descriptors(int directory, Tally& tally) {
  int fds = openat(directory, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* listing = fds < 0 ? nullptr : fdopendir(fds);
  while (const dirent* entry = listing == nullptr ? nullptr : readdir(listing)) {
    if (entry->d_name[0] == '.' || atoi(entry->d_name) <= 2) continue;
    char target[256] = {};
    if (readlinkat(fds, entry->d_name, target, sizeof target - 1) < 0 || !is_monitor(directory)) continue;
    tally.found(std::string("descriptor ") + entry->d_name + " is " + target);
  }
  if (listing != nullptr) closedir(listing);
}

void look_at_root(int directory, const Spec& spec, Tally& tally) {
  for (const char* name : {"root", "cwd"}) {
    int root = openat(directory, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) continue;
    struct stat status;
    if (fstatat(root, spec.host_file.c_str() + 1, &status, AT_SYMLINK_NOFOLLOW) == 0) {
      tally.found(std::string("its ") + name + " is the host's");
    }
    close(root);
  }
}

// While it is stopped, before its execve.
void look_at_memory(int directory, const Spec& spec, Tally& tally) {
  int memory = openat(directory, "mem", O_RDONLY | O_CLOEXEC);
  const std::string maps = read_at(directory, "maps");
  for (size_t at = 0; memory >= 0 && at < maps.size(); at = maps.find('\n', at) + 1) {
    unsigned long begin = 0, end = 0;
    char access[8] = {};
    if (sscanf(maps.c_str() + at, "%lx-%lx %4s", &begin, &end, access) != 3 || access[0] != 'r') continue;
    std::string bytes(end - begin, '\0');
    ssize_t size = pread(memory, bytes.data(), bytes.size(), static_cast<off_t>(begin));
    if (size <= 0) continue;
    bytes.resize(static_cast<size_t>(size));
    if (bytes.find(spec.secret) != bytes.npos) tally.found("its memory holds the environment of another container");
    if (maps.find('\n', at) == maps.npos) break;
  }
  if (memory >= 0) close(memory);
}

void look(pid_t pid, const Spec& spec, Tally& tally) {
  int directory = open(("/proc/" + std::to_string(pid)).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return;
  ++tally.seen;
  const bool early = is_monitor(directory);
  // Held still first, where that succeeds: then all of it is what the process is before its execve.
  const bool seized = ptrace(PTRACE_SEIZE, pid, 0, 0) == 0;
  int stopped = 0;
  if (seized && ptrace(PTRACE_INTERRUPT, pid, 0, 0) == 0) {
    for (int tries = 0; tries < 2000 && waitpid(pid, &stopped, __WALL | WNOHANG) != pid; ++tries) usleep(10);
  }
  const bool is_early = early && is_monitor(directory);
  const std::string status = read_at(directory, "status");
  if (!status.empty()) look_at_status(status, spec, tally, is_early ? " before execve" : " behind execve");
  look_at_root(directory, spec, tally);
  if (is_early) {
    ++tally.early;
    tally.seized += seized;
    look_at_descriptors(directory, tally);
    if (seized) look_at_memory(directory, spec, tally);
  }
  if (seized) ptrace(PTRACE_DETACH, pid, 0, 0);
  close(directory);
}

double now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

pid_t highest_pid() {
  pid_t highest = 0;
  DIR* listing = opendir("/proc");
  while (const dirent* entry = readdir(listing)) highest = std::max(highest, atoi(entry->d_name));
  closedir(listing);
  return highest;
}

volatile sig_atomic_t asked_to_end = 0;
void on_term(int) { asked_to_end = 1; }

void print(const Tally& tally) {
  printf("{\"seen\": %ld, \"early\": %ld, \"seized\": %ld, \"findings\": [", tally.seen, tally.early, tally.seized);
  const char* comma = "";
  for (const std::string& finding : tally.findings) {
    printf("%s\"", comma);
    for (char character : finding) putchar(character < ' ' || strchr("\"\\", character) ? '?' : character);
    printf("\"");
    comma = ", ";
  }
  printf("]}\n");
}

[[noreturn]] void stop_all() {
  for (pid_t next = highest_pid() + 1;;) {
    for (pid_t pid = next; pid < next + 4; ++pid) {
      if (kill(pid, SIGSTOP) == 0) next = pid + 1;
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count == 2 && arguments[1] == std::string("stop")) stop_all();
  if (count != 11) return 2;
  Spec spec = {};
  for (int at = 0; at < 5; ++at) spec.capabilities[at] = strtoull(arguments[2 + at], nullptr, 16);
  spec.no_new_privs = atoi(arguments[7]);
  spec.seccomp = atoi(arguments[8]);
  spec.secret = arguments[9];
  spec.host_file = arguments[10];
  signal(SIGTERM, on_term);
  Tally tally;
  const double end = now() + atof(arguments[1]);
  pid_t next = highest_pid() + 1;
  for (long round = 0; !asked_to_end && ((round & 0xfff) != 0 || now() < end); ++round) {
    // Ids are given in order: the next one is one of these.
    for (pid_t pid = next; pid < next + 4; ++pid) {
      char name[32];
      snprintf(name, sizeof name, "/proc/%d", pid);
      if (access(name, F_OK) != 0) continue;
      look(pid, spec, tally);
      next = pid + 1;
      break;
    }
    // Unless some came and went unseen.
    if ((round & 0x1f) == 0) next = std::max(next, highest_pid());
  }
  print(tally);
  return 0;
}
