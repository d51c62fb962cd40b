// What a container's init and an exec have in common: OOM score and label, keyring, working directory, credentials,
// execve. The monitor prepares all of it before the clone.
#pragma once

#include <string>
#include <string_view>

#include "monitor/setup/child.h"
#include "monitor/setup/last_steps.h"
#include "monitor/setup/seccomp_filter.h"
#include "monitor/setup/spec.h"

namespace keelson {

// The credentials of the process in the container.
struct Credentials {
  Capabilities capabilities;  // the spec's, without those that the host does not allow
  uint64_t host_capabilities = 0;
  const SeccompFilter* filter = nullptr;  // null: none, or loaded by the last steps
};

// Drops all capabilities permanently.
void drop_capabilities(const Child& child);

// Keeps references to its plan's arguments, which must outlive the clone.
class ContainerProcess {
 public:
  struct Surroundings {
    std::string_view container_id;  // for the name of the session keyrings: the init and each exec have their own
    bool in_user_namespace = false;
    // Others can see the process from its first moment: it starts with its final credentials, and runs only the last
    // steps.
    bool is_watched = false;
  };

  static Result<ContainerProcess> plan(const ProcessSpec& process, const CommandSpec& command,
                                       const SeccompFilter& filter, const Surroundings& surroundings);

  const LastSteps& last_steps() const { return last_steps_; }
  // To be called while /proc is the host's: writes the score and the labels that take effect at execve there.
  void set_score_and_labels(const Child& child) const;
  void join_keyring(const Child& child) const;
  // Working directory and credentials; only the last steps follow.
  void become(const Child& child) const;

 private:
  ContainerProcess(const ProcessSpec& process, Credentials credentials, LastSteps last_steps, bool is_watched)
      : process_(process), credentials_(credentials), last_steps_(std::move(last_steps)), is_watched_(is_watched) {}

  bool enter_directory(const Child& child, bool last_try) const;

  const ProcessSpec& process_;
  Credentials credentials_;
  LastSteps last_steps_;
  bool is_watched_;
  bool finds_home_ = false;
  std::string keyring_;
  std::string oom_score_;
  std::string apparmor_;  // "exec PROFILE"
};

}  // namespace keelson
