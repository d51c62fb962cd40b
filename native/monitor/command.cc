// Preparing and executing a command inside a container.
#include "command.h"

#include <linux/keyctl.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

#include "limits.h"

namespace keelson {

namespace {

constexpr std::string_view default_path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// The first PATH of the environment, which is the one getenv(3) gives the command itself.
std::string_view path_of(const std::vector<std::string>& env) {
  for (const std::string& entry : env) {
    if (entry.starts_with("PATH=")) return std::string_view(entry).substr(5);
  }
  return default_path;
}

std::vector<std::string> candidates_for(const std::string& command, std::string_view path) {
  if (command.find('/') != command.npos || command.empty()) return {command};
  std::vector<std::string> candidates;
  while (!path.empty()) {
    size_t colon = path.find(':');
    std::string_view directory = path.substr(0, colon);
    // An empty or relative entry would look in the working directory: a classic trap.
    if (directory.starts_with('/')) candidates.push_back(std::string(directory) + "/" + command);
    if (colon == path.npos) break;
    path.remove_prefix(colon + 1);
  }
  return candidates;
}

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

Result<Command> Command::plan(const ProcessSpec& process, std::string_view container_id,
                              const std::string& seccomp_filter_path, bool in_user_namespace) {
  Result<Credentials> credentials = plan_credentials(process, seccomp_filter_path, in_user_namespace);
  if (!credentials) return std::unexpected(credentials.error());
  Command command;
  command.process_ = process;
  command.credentials_ = std::move(*credentials);
  command.keyring_ = "keelson-" + std::string(container_id);
  if (process.oom_score_adj) command.oom_score_ = std::to_string(*process.oom_score_adj);
  if (!process.apparmor_profile.empty()) {
    command.label_file_ = "/proc/self/attr/apparmor/exec";
    command.label_ = "exec " + process.apparmor_profile;
  } else if (!process.selinux_label.empty()) {
    command.label_file_ = "/proc/self/attr/exec";
    command.label_ = process.selinux_label;
  }
  command.candidates_ = candidates_for(process.args[0], path_of(process.env));
  command.argv_ = pointers_to(command.process_.args);
  command.envp_ = pointers_to(command.process_.env);
  return command;
}

void Command::set_score_and_label(const Child& child) const {
  if (!oom_score_.empty()) set_oom_score(child, oom_score_.c_str());
  if (label_.empty()) return;
  int file = open(label_file_.c_str(), O_WRONLY | O_CLOEXEC);
  if (file < 0 || write(file, label_.data(), label_.size()) < 0) child.die(Step::set_security_label, label_.c_str());
  close(file);
}

void Command::join_keyring(const Child& child) const {
  if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, keyring_.c_str()) < 0 && errno != ENOSYS) {
    child.die(Step::join_keyring, keyring_.c_str());
  }
}

bool Command::enter_directory(const Child& child, bool last_try) const {
  const char* directory = process_.cwd.c_str();
  if (chdir(directory) != 0) {
    if (!last_try && errno == EACCES) return false;
    child.die(Step::change_directory, directory);
  }
  // A path through /proc/self/fd leads out of the root when a descriptor leaked (CVE-2024-21626):
  // then the kernel gives a path that starts with "(unreachable)".
  char reached[PATH_MAX];
  if (syscall(SYS_getcwd, reached, sizeof reached) < 0) child.die(Step::change_directory, directory);
  if (reached[0] != '/') child.die(Step::refuse_directory_outside, directory, EXDEV);
  return true;
}

void Command::execute(const Child& child) const {
  child.ready();
  int error = ENOENT;
  for (const std::string& candidate : candidates_) {
    execve(candidate.c_str(), argv_.data(), envp_.data());
    if (errno == ENOENT || errno == ENOTDIR) continue;
    // As a shell does: go on looking, but remember that one was there.
    error = errno;
    if (error != EACCES) break;
  }
  child.die(Step::execute, argv_[0], error);
}

}  // namespace keelson
