// The last part of every start, shared by a container's init and by an exec: limits,
// working directory, credentials, execve. Everything is laid out by the monitor first.
#pragma once

#include <string>
#include <vector>

#include "monitor/setup/child.h"
#include "monitor/setup/credentials.h"
#include "monitor/setup/last_steps.h"
#include "monitor/setup/process.h"
#include "monitor/setup/spec.h"

namespace keelson {

struct CommandPlan {
  std::string_view container_id;  // names the session keyring that a container's processes share
  const std::string& seccomp_filter_path;
  bool in_user_namespace = false;
  // Others see the process from its birth: it is born with its credentials, and only its last steps are its own.
  bool is_watched = false;
};

class Command {
 public:
  static Result<Command> plan(const ProcessSpec& process, const CommandPlan& plan);

  const ProcessSpec& process() const { return process_; }
  const LastSteps& last_steps() const { return last_steps_; }
  // To be called while /proc is the host's: score and label are written there.
  void set_score_and_label(const Child& child) const;
  void join_keyring(const Child& child) const;
  // Limits, working directory, credentials: after it only the last steps are to come.
  void become(const Child& child) const;

 private:
  Command(ProcessSpec process, Credentials credentials, LastSteps last_steps, bool is_watched)
      : process_(std::move(process)),
        credentials_(std::move(credentials)),
        last_steps_(std::move(last_steps)),
        is_watched_(is_watched) {}

  bool enter_directory(const Child& child, bool last_try) const;

  ProcessSpec process_;
  Credentials credentials_;
  LastSteps last_steps_;
  bool is_watched_;
  std::string keyring_;
  std::string oom_score_;
  std::string label_file_, label_;
};

}  // namespace keelson
