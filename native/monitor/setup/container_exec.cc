#include "monitor/setup/container_exec.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include "common/file.h"
#include "monitor/setup/container_process.h"
#include "monitor/setup/filesystem.h"
#include "monitor/setup/namespaces.h"

namespace keelson {

namespace {

// Used for streams that the client leaves out if the container's own /dev/null is not usable: it is often replaced by a
// regular file by mistake, and an exec is how users find out.
Result<int> null_device() {
  static Fd opened;
  if (!opened) {
    const Fd mount = null_mount();
    if (!mount) return fail_errno("mount /dev/null");
    opened = TRY(open_file("/proc/self/fd/" + std::to_string(mount.get()), O_RDWR));
  }
  return opened.get();
}

struct Streams {
  Stdio stdio;                // all three, unless there is a terminal
  std::vector<int> left_out;  // numbers of those that the client left out
};

Result<Streams> complete(Stdio given, const CommandSpec& command) {
  Streams streams{std::move(given), {}};
  if (command.terminal) return streams;
  Fd* const all[] = {&streams.stdio.in, &streams.stdio.out, &streams.stdio.err};
  for (int number = 0; number < 3; ++number) {
    if (*all[number]) continue;
    *all[number] = Fd(fcntl(TRY(null_device()), F_DUPFD_CLOEXEC, 3));
    if (!*all[number]) return fail_errno("open /dev/null");
    streams.left_out.push_back(number);
  }
  return streams;
}

class ContainerExec final : public Procedure {
 public:
  ContainerExec(const ExecTarget& target, int namespaces, const CommandSpec& command, ContainerProcess process,
                const Streams& streams)
      : target_(target),
        namespaces_(namespaces),
        command_(command),
        process_(std::move(process)),
        streams_(streams),
        stdio_owner_(host_id(target.sandbox.spec.uid_mappings, target.spec.process.uid)),
        cgroup_files_(target.cgroup.v1_task_files()) {}

  // Runs in a helper that the container cannot see (SpawnWay::helper_then_shared_namespace).
  void enter(const Child& child) override {
    leave_monitor(child);
    place_stdio(child, streams_.stdio, stdio_owner_);
    // Before entering the container, which must not see descriptors of the host, and before joining its cgroup: if that
    // is frozen, inherited ends of other processes' streams would stay open.
    close_descriptors(child, {&target_.pidfd, 1});
    join_v1_cgroups(child, cgroup_files_);
    // While /proc is still the host's; the process inherits both.
    process_.set_score_and_labels(child);
    // All at once: either the process is in the container or it is not.
    child.check(setns(target_.pidfd, namespaces_), Step::join_namespace);
    close(target_.pidfd);
    if (namespaces_ & CLONE_NEWUSER) become_namespace_root(child);
  }

  void set_up(const Child& child) override {
    process_.join_keyring(child);
    if (command_.terminal) place_terminal(child, open_own_terminal(child));
    else take_own_null(child);
    process_.become(child);
  }

  const LastSteps* last_steps() const override { return &process_.last_steps(); }

 private:
  void take_own_null(const Child& child) const {
    if (streams_.left_out.empty()) return;
    const Fd null = open_own_null();
    if (!null) return;
    for (int number : streams_.left_out) child.check(dup3(null.get(), number, 0), Step::open_null);
  }

  Fd open_own_terminal(const Child& child) const {
    const Fd root = child.check(Fd(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)), Step::open_terminal, "/");
    return open_terminal(child, root.get(), command_, target_.spec.process.uid);
  }

  const ExecTarget& target_;
  int namespaces_;
  const CommandSpec& command_;
  ContainerProcess process_;
  const Streams& streams_;
  uid_t stdio_owner_;
  std::vector<std::string> cgroup_files_;
};

// The namespaces of the container and its pod; the monitor is already in those of the host.
int namespaces_of(const ContainerSpec& spec) {
  int flags = 0;
  for (const NamespaceSpec& space : spec.namespaces) flags |= space.flag;
  return flags;
}

}  // namespace

std::shared_ptr<Attempt> spawn_container_exec(Loop& loop, Reaper& reaper, const ExecTarget& target,
                                              const SeccompFilter& filter, const CommandSpec& command, Stdio stdio,
                                              Done<Started> done) {
  const int namespaces = namespaces_of(target.spec);
  auto process = ContainerProcess::plan(target.spec.process, command, filter,
                                        {target.id, (namespaces & CLONE_NEWUSER) != 0, /*is_watched=*/true});
  if (!process) return cannot_begin(done, std::move(process.error()));
  const Result<Streams> streams = complete(std::move(stdio), command);
  if (!streams) return cannot_begin(done, streams.error());
  ContainerExec exec(target, namespaces, command, std::move(*process), *streams);
  SpawnOptions options;
  options.way = SpawnWay::helper_then_shared_namespace;
  options.cgroup_fd = target.cgroup.clone_fd();
  // A container that has delegated its controllers (one that runs systemd) has its processes in descendants of its
  // cgroup (cgroup-v2.rst, "No Internal Process Constraint").
  options.cgroup_instead = [&target] { return target.cgroup.clone_fd_of(target.init); };
  options.command = command.args[0];
  options.slot = target.slot;
  return spawn(loop, reaper, exec, std::move(options), std::move(done));
}

}  // namespace keelson
