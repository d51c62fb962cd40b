// The last part of every start, shared by a container's init and by an exec: limits,
// working directory, credentials, execve. Everything is laid out by the monitor first.
#pragma once

#include <string>
#include <vector>

#include "child.h"
#include "credentials.h"
#include "process.h"
#include "spec.h"

namespace keelson {

class Command {
 public:
  // `container_id` names the session keyring that a container's processes share.
  static Result<Command> plan(const ProcessSpec& process, std::string_view container_id,
                              const std::string& seccomp_filter_path, bool in_user_namespace);

  const ProcessSpec& process() const { return process_; }
  // To be called while /proc is the host's: score and label are written there.
  void set_score_and_label(const Child& child) const;
  void join_keyring(const Child& child) const;
  // As root inside the container's root, and again as the user, who may be the only
  // one to have access (root squash on NFS). True when the directory is entered.
  bool enter_directory(const Child& child, bool last_try) const;
  void become_user(const Child& child) const { take_credentials(child, credentials_); }
  [[noreturn]] void execute(const Child& child) const;

 private:
  ProcessSpec process_;
  Credentials credentials_;
  std::string keyring_;
  std::string oom_score_;
  std::string label_file_, label_;
  std::vector<std::string> candidates_;  // what execve is tried on, in the order of PATH
  std::vector<char*> argv_, envp_;       // point into process_
};

}  // namespace keelson
