// The OCI handler: drives an OCI runtime binary over the same bundle.
//
// create (its stdio becomes the container's), start, exec --detach, kill, delete --force. The
// runtime's processes become our children when it exits, for we are their subreaper.
// Sources: OCI runtime.md, runc(8), crun(1).
#include <sys/syscall.h>
#include <unistd.h>

#include <charconv>

#include "monitor/handler/console_socket.h"
#include "monitor/pod/container.h"
#include "monitor/handler/handler.h"
#include "monitor/handler/host_rootfs.h"
#include "monitor/handler/oci_process.h"
#include "monitor/handler/oci_runtime.h"

namespace keelson {

namespace {

Result<pid_t> read_pid(const std::string& path) {
  auto text = read_file(path, 64);
  if (!text) return std::unexpected(text.error());
  pid_t pid = 0;
  std::from_chars(text->data(), text->data() + text->size(), pid);
  if (pid <= 0) return fail(Kind::system, "read " + path, "the runtime wrote no process id");
  return pid;
}

// What the runtime has made, once it has ended well.
Result<Started> take_started(const std::string& pid_file, const ConsoleSocket* console) {
  Started started;
  auto pid = read_pid(pid_file);
  if (!pid) return std::unexpected(pid.error());
  started.pid = *pid;
  started.pidfd = Fd(static_cast<int>(syscall(SYS_pidfd_open, *pid, 0)));
  // ESRCH: it has run and been reaped before its runtime's end was; the Hold keeps how it exited.
  if (!started.pidfd && errno != ESRCH) return fail_errno("open a pidfd of the runtime's process");
  if (console != nullptr) {
    auto terminal = console->receive();
    if (!terminal) return std::unexpected(terminal.error());
    started.sent = std::move(*terminal);
  }
  return started;
}

ProgramStdio as_program_stdio(const Stdio& stdio) { return {stdio.in.get(), stdio.out.get(), stdio.err.get()}; }

// One run of create or exec on its way.
struct Launch {
  Reaper::Hold hold;
  std::string pid_file;
  std::string process_file;  // of exec
  std::optional<ConsoleSocket> console;

  ~Launch() {
    unlink(pid_file.c_str());
    if (!process_file.empty()) unlink(process_file.c_str());
  }

  const ConsoleSocket* console_or_null() const { return console ? &*console : nullptr; }
};

class OciHandler : public Handler {
 public:
  OciHandler(Context& context, std::string id, std::string bundle, std::string binary, std::string root)
      : context_(context),
        id_(std::move(id)),
        bundle_(std::move(bundle)),
        runtime_(context, std::move(binary), std::move(root), bundle_) {}

  void start(StartOrder order, const ContainerSpec& spec, Stdio stdio, Done<Launched> done) override;
  std::weak_ptr<Attempt> exec(ExecOrder order, const ContainerSpec& spec, const Cgroup& cgroup, Stdio stdio,
                              Done<Started> done) override;

  void abort_start(Error why) override {
    if (auto run = starting_.lock()) run->abort(std::move(why));
  }

  void signal(pid_t, int signal, DoneStatus done) override {
    runtime_.run({"kill", id_, std::to_string(signal)}, {}, std::move(done));
  }

  void remove(Cgroup& cgroup, DoneStatus done) override {
    runtime_.run({"delete", "--force", id_}, {}, [this, &cgroup, done = std::move(done)](Status deleted) mutable {
      Status unmounted = unmount_host_rootfs(rootfs_, bundle_);
      if (!deleted || !unmounted) return done(deleted ? unmounted : deleted);
      // The runtime removes its cgroup; a process that took its time is counted in it a moment longer.
      remove_cgroup(context_.loop, cgroup, std::move(done));
    });
  }

 private:
  Result<std::shared_ptr<Launch>> prepare(bool terminal);
  void undo_start(Error error, Done<Launched> done);

  Context& context_;
  std::string id_;
  std::string bundle_;
  RootfsSpec rootfs_;  // what start() has mounted
  std::string cgroup_path_;
  OciRuntime runtime_;
  std::weak_ptr<Attempt> starting_;  // the run of create or start that is under way
};

Result<std::shared_ptr<Launch>> OciHandler::prepare(bool terminal) {
  auto launch = std::make_shared<Launch>(Reaper::Hold(context_.reaper), runtime_.fresh_path(".pid"));
  if (!terminal) return launch;
  std::string name = runtime_.fresh_path(".sock").substr(bundle_.size() + 1);
  auto console = ConsoleSocket::listen(bundle_, name);
  if (!console) return std::unexpected(console.error());
  launch->console = std::move(*console);
  return launch;
}

void OciHandler::start(StartOrder order, const ContainerSpec& spec, Stdio stdio, Done<Launched> done) {
  Status mounted = mount_host_rootfs(order.rootfs, bundle_, spec.readonly_root);
  if (!mounted) return done(std::unexpected(mounted.error()));
  rootfs_ = order.rootfs;
  cgroup_path_ = std::move(order.cgroup_path);
  auto launch = prepare(spec.process.terminal);
  if (!launch) {
    undo_host_rootfs(rootfs_, bundle_);
    return done(std::unexpected(launch.error()));
  }
  std::vector<std::string> arguments{"create", "--bundle", bundle_, "--pid-file", (*launch)->pid_file};
  if (spec.process.terminal) arguments.insert(arguments.end(), {"--console-socket", (*launch)->console->path()});
  arguments.push_back(id_);

  auto on_created = [this, launch = *launch](Started started, Done<Launched> then) {
    starting_ = runtime_.run({"start", id_}, {}, [this, launch, started = std::move(started),
                                                  then = std::move(then)](Status ran) mutable {
      if (!ran) return undo_start(std::move(ran.error()), std::move(then));
      then(Launched{std::move(started), Cgroup::open(context_.cgroups, cgroup_path_)});
    });
  };
  starting_ = runtime_.run(std::move(arguments), as_program_stdio(stdio),
                           [this, launch = *launch, on_created = std::move(on_created),
                            done = std::move(done)](Status created) mutable {
                             if (!created) return undo_start(std::move(created.error()), std::move(done));
                             auto started = take_started(launch->pid_file, launch->console_or_null());
                             if (!started) return undo_start(std::move(started.error()), std::move(done));
                             on_created(std::move(*started), std::move(done));
                           });
}

void OciHandler::undo_start(Error error, Done<Launched> done) {
  runtime_.run({"delete", "--force", id_}, {},
               [this, error = std::move(error), done = std::move(done)](Status) mutable {
                 undo_host_rootfs(rootfs_, bundle_);
                 // A runtime that was killed may have left processes which it knows nothing of.
                 auto cgroup = std::make_shared<Cgroup>(Cgroup::open(context_.cgroups, cgroup_path_));
                 remove_cgroup(context_.loop, *cgroup,
                               [cgroup, error = std::move(error), done = std::move(done)](Status) mutable {
                                 done(std::unexpected(std::move(error)));
                               });
               });
}

std::weak_ptr<Attempt> OciHandler::exec(ExecOrder order, const ContainerSpec&, const Cgroup&, Stdio stdio, Done<Started> done) {
  auto launch = prepare(order.terminal);
  if (!launch) {
    done(std::unexpected(launch.error()));
    return {};
  }
  (*launch)->process_file = runtime_.fresh_path(".json");
  if (Status written = write_exec_process(bundle_ + "/config.json", (*launch)->process_file, order); !written) {
    done(std::unexpected(written.error()));
    return {};
  }
  std::vector<std::string> arguments{"exec",       "--detach",
                                     "--process",  (*launch)->process_file,
                                     "--pid-file", (*launch)->pid_file};
  if (order.terminal) arguments.insert(arguments.end(), {"--console-socket", (*launch)->console->path()});
  arguments.push_back(id_);
  return runtime_.run(std::move(arguments), as_program_stdio(stdio),
               [launch = *launch, done = std::move(done)](Status ran) mutable {
                 if (!ran) return done(std::unexpected(std::move(ran.error())));
                 done(take_started(launch->pid_file, launch->console_or_null()));
               });
}

}  // namespace

std::unique_ptr<Handler> make_oci_handler(Context& context, std::string id, std::string bundle, std::string binary,
                                          std::string root) {
  return std::make_unique<OciHandler>(context, std::move(id), std::move(bundle), std::move(binary), std::move(root));
}

}  // namespace keelson
