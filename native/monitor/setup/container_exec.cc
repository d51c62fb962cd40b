// An exec into a living container: the steps from a fresh process to its command, in order.
#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "monitor/setup/command.h"
#include "monitor/setup/descriptors.h"
#include "monitor/setup/user_namespace.h"
#include "monitor/setup/spawn.h"
#include "monitor/setup/limits.h"
#include "monitor/setup/process.h"
#include "monitor/setup/signals.h"
#include "monitor/setup/terminal.h"

namespace keelson {

namespace {

class ContainerExec final : public ChildProgram {
 public:
  ContainerExec(Command command, int container_pidfd, int namespaces, uid_t stdio_owner,
                std::vector<std::string> cgroup_files, const Stdio& stdio)
      : command_(std::move(command)),
        container_pidfd_(container_pidfd),
        namespaces_(namespaces),
        stdio_owner_(stdio_owner),
        cgroup_files_(std::move(cgroup_files)),
        stdio_(stdio) {}

  // All of it in a helper that the container cannot see (BirthPlace::joined_namespace).
  void enter(const Child& child) override {
    // The monitor's memory is nobody else's to read, and its program not to be opened
    // through /proc/<pid>/exe: execve resets this.
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) child.die(Step::reset_signals);
    reset_signals(child);
    join_v1_cgroups(child, cgroup_files_);
    // While /proc is still the host's; both are inherited by the process to come.
    command_.set_score_and_label(child);
    place_stdio(child, stdio_, stdio_owner_);
    // No descriptor of the host may be there when the container's mounts and processes are.
    close_descriptors(child, {&container_pidfd_, 1});
    // All at once: either the process is in the container or it is not.
    if (setns(container_pidfd_, namespaces_) != 0) child.die(Step::join_namespace);
    close(container_pidfd_);
    if (namespaces_ & CLONE_NEWUSER) become_namespace_root(child);
  }

  void set_up(const Child& child) override {
    command_.join_keyring(child);
    if (command_.process().terminal) place_terminal(child, open_own_terminal(child));
    else open_missing_streams(child, stdio_);
    command_.become(child);
  }

  const LastSteps* last_steps() const override { return &command_.last_steps(); }

 private:
  int open_own_terminal(const Child& child) const {
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) child.die(Step::open_terminal, "/");
    int slave = open_terminal(child, root, command_.process());
    close(root);
    return slave;
  }

  Command command_;
  int container_pidfd_;
  int namespaces_;
  uid_t stdio_owner_;
  std::vector<std::string> cgroup_files_;
  const Stdio& stdio_;
};

// Those the container has of its own or of its pod; in the host's the monitor is already.
int namespaces_of(const ContainerSpec& spec) {
  int flags = 0;
  for (const NamespaceSpec& space : spec.namespaces) flags |= space.flag;
  return flags;
}

}  // namespace

std::shared_ptr<Attempt> start_exec(const StartContext& context, const ExecRequest& request,
                                    const ContainerSpec& spec, const ProcessSpec& process, const Cgroup& cgroup,
                                    Stdio stdio, Done<Started> done) {
  const std::string container = "container " + request.id;
  if (process.args.empty()) {
    done(about(fail(Kind::invalid, "execute a command", "there is no command").error(), container));
    return nullptr;
  }
  const int namespaces = namespaces_of(spec);
  Result<Command> command = Command::plan(
      process, {request.id, request.seccomp_filter_path, (namespaces & CLONE_NEWUSER) != 0, /*is_watched=*/true});
  if (!command) {
    done(about(command.error(), container));
    return nullptr;
  }
  LaunchOptions options;
  options.cgroup_fd = cgroup.clone_fd();
  options.place = BirthPlace::joined_namespace;
  options.command = process.args[0];
  options.slot = request.slot;
  ContainerExec exec(std::move(*command), request.container_pidfd, namespaces,
                     host_id(context.sandbox.spec.uid_mappings, process.uid), cgroup.v1_task_files(), stdio);
  return launch(context.loop, context.reaper, exec, std::move(options),
                [container, done = std::move(done)](Result<Started> started) mutable {
                  if (!started) return done(about(std::move(started.error()), container));
                  done(std::move(started));
                });
}

}  // namespace keelson
