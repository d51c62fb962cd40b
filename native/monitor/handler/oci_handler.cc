// Sources: OCI runtime.md, runc(8), crun(1).
#include "monitor/handler/oci_handler.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <optional>
#include <span>

#include "common/file.h"
#include "common/json.h"
#include "monitor/cgroup/cgroup.h"
#include "monitor/handler/oci_runtime.h"
#include "monitor/setup/child.h"
#include "monitor/setup/filesystem.h"
#include "monitor/setup/rootfs.h"

namespace keelson {

namespace {

constexpr size_t max_config = 4 << 20;

void copy(JsonWriter& to, const Json& from) {
  switch (from.type()) {
    case Json::Type::null: case Json::Type::real: break;  // callers skip nulls; `process` has no reals
    case Json::Type::boolean: to.value(from.boolean()); break;
    case Json::Type::integer: to.value(from.integer()); break;
    case Json::Type::string: to.value(from.string()); break;
    case Json::Type::array:
      to.begin_array();
      for (const Json& item : from.items()) copy(to, item);
      to.end_array();
      break;
    case Json::Type::object:
      to.begin_object();
      for (const auto& [name, value] : from.members()) {
        if (value.is_null()) continue;
        to.key(name);
        copy(to, value);
      }
      to.end_object();
      break;
  }
}

void write_texts(JsonWriter& json, std::string_view key, const std::vector<std::string>& texts) {
  json.key(key).begin_array();
  for (const std::string& text : texts) json.value(text);
  json.end_array();
}

// The process.json of an exec: the container's own process with a different command.
std::string exec_process(const Json& process, const std::vector<std::string>& env, const CommandSpec& command) {
  JsonWriter json;
  json.begin_object();
  for (const auto& [name, value] : process.members()) {
    const bool is_own = name == "args" || name == "env" || name == "terminal" || name == "consoleSize";
    if (is_own || value.is_null()) continue;
    json.key(name);
    copy(json, value);
  }
  write_texts(json, "args", command.args);
  write_texts(json, "env", command.terminal ? with_terminal_kind(env) : env);
  json.key("terminal").value(command.terminal);
  if (command.terminal && command.columns > 0) {
    json.key("consoleSize").begin_object();
    json.key("height").value(command.rows).key("width").value(command.columns);
    json.end_object();
  }
  json.end_object();
  return json.take();
}

Status write_exec_process(const std::string& config_path, const std::string& path, const std::vector<std::string>& env,
                          const CommandSpec& command) {
  const std::string text = TRY(read_file(config_path, max_config));
  const Json config = TRY(parse_json(text));
  const std::string process = exec_process(config["process"], env, command);
  Fd file(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file) return fail_errno("create " + path);
  const std::span bytes(reinterpret_cast<const uint8_t*>(process.data()), process.size());
  return write_all(file.get(), bytes, ("write " + path).c_str());
}

Result<pid_t> read_pid(const std::string& path) {
  const std::string text = TRY(read_file(path, 64));
  pid_t pid = 0;
  std::from_chars(text.data(), text.data() + text.size(), pid);
  if (pid <= 0) return fail(Kind::system, "read " + path, "the runtime did not write a process id");
  return pid;
}

// The files of one run of the runtime's create or exec, and its result.
struct RuntimeRun {
  std::shared_ptr<void> hold;  // of the reaper
  std::string pid_file;
  std::string process_file;  // of exec
  std::optional<ConsoleSocket> console;

  ~RuntimeRun() {
    unlink(pid_file.c_str());
    if (!process_file.empty()) unlink(process_file.c_str());
  }

  // The arguments of the runtime for `command` on the container `id`.
  std::vector<std::string> arguments(std::vector<std::string> command, const std::string& id) const {
    command.insert(command.end(), {"--pid-file", pid_file});
    if (console) command.insert(command.end(), {"--console-socket", console->path()});
    command.push_back(id);
    return command;
  }

  // To be called once the run has succeeded.
  Result<Started> take_started() const {
    Started started;
    started.pid = TRY(read_pid(pid_file));
    started.pidfd = open_pidfd(started.pid);
    // ESRCH: the process exited and was reaped before the runtime itself; the hold keeps its exit status.
    if (!started.pidfd && errno != ESRCH) return fail_errno("open a pidfd of the runtime's process");
    if (console) started.sent = TRY(console->receive());
    return started;
  }
};

// Refuses an image whose /dev, /proc or /sys is a link: a runtime that prepares the root before pivoting into it would
// follow that out to the host (CVE-2023-27561, CVE-2026-41579, CVE-2026-47766). Nobody else can write to this root yet,
// so the check cannot become stale.
void refuse_links(const Child& child, int root) {
  for (const char* name : {"/dev", "/proc", "/sys"}) {
    struct stat entry;
    if (fstatat(root, name + 1, &entry, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno != ENOENT) child.die(Step::use_image_directory, name);
    } else if (!S_ISDIR(entry.st_mode)) {
      child.die(Step::use_image_directory, name, S_ISLNK(entry.st_mode) ? ELOOP : ENOTDIR);
    }
  }
}

// Mounts in the host's mount namespace, where the mounts outlive the child.
class HostRootfs final : public Procedure {
 public:
  HostRootfs(RootfsPlan plan, bool readonly_root) : plan_(std::move(plan)), readonly_root_(readonly_root) {}

  void enter(const Child& child) override { close_descriptors(child); }

  void set_up(const Child& child) override {
    const Fd root = mount_rootfs(child, plan_.root);
    refuse_links(child, root.get());
    make_directories(child, root.get(), plan_.directories);
    if (readonly_root_) keep_writable(child, root.get(), plan_.directories);
    make_image_views(child, plan_.images, -1, -1);
    for (const ImagePlan& image : plan_.images) {
      // Replace the whole image, which was mounted here only to look up the sub path, by the part of it.
      const std::string& mountpoint = image.view.mountpoint;
      child.check(unmount(mountpoint.c_str()), Step::mount_root, mountpoint.c_str());
      attach_at(child, image.tree.get(), mountpoint);
    }
    child.settle();
    _exit(0);
  }

  const LastSteps* last_steps() const override { return nullptr; }

 private:
  RootfsPlan plan_;
  bool readonly_root_;
};

Status unmount_host_rootfs(const RootfsSpec& rootfs, const std::string& bundle) {
  Status first;
  auto take_down = [&first](const std::string& mountpoint) {
    if (unmount(mountpoint.c_str()) != 0 && first) first = fail_errno("unmount " + mountpoint);
  };
  take_down(bundle + "/rootfs");
  for (const ImageView& image : rootfs.images) take_down(image.mountpoint);
  return first;
}

// After a failed start: makes the writable layer usable for a retry.
void undo_host_rootfs(const RootfsSpec& rootfs, const std::string& bundle) {
  if (unmount_host_rootfs(rootfs, bundle)) forget_failed_mount(rootfs);
}

// Mounts the container's root at <bundle>/rootfs and its image volumes, in a child process because a mount can block.
// The runtime makes the root read-only if requested; the image's declared volumes stay writable. After a failure
// nothing is left behind when `done` is called.
std::shared_ptr<Attempt> mount_host_rootfs(Loop& loop, Reaper& reaper, const RootfsSpec& rootfs,
                                           const std::string& bundle, const ContainerSpec& spec, DoneStatus done) {
  HostRootfs procedure(plan_rootfs(rootfs, bundle, spec.mount_label), spec.readonly_root);
  return spawn(loop, reaper, procedure, {}, [rootfs, bundle, done = std::move(done)](Result<Started> ended) mutable {
    if (ended) return done({});
    undo_host_rootfs(rootfs, bundle);
    done(std::unexpected(std::move(ended.error())));
  });
}

class OciHandler : public Handler {
 public:
  OciHandler(Context& context, std::string id, std::string bundle, std::string binary, std::string root)
      : context_(context),
        id_(std::move(id)),
        bundle_(std::move(bundle)),
        runtime_(context, std::move(binary), std::move(root), bundle_) {}

  void start(StartOrder order, Stdio stdio, Done<StartedContainer> done) override;
  std::weak_ptr<Attempt> exec(const ExecTarget& target, const CommandSpec& command, Stdio stdio,
                              Done<Started> done) override;

  void abort_start(Error why) override {
    if (auto step = starting_.lock()) step->abort(std::move(why));
  }

  void signal(pid_t, int signal, DoneStatus done) override {
    runtime_.run({"kill", id_, std::to_string(signal)}, {}, std::move(done));
  }

  void remove(const Cgroup& cgroup, DoneStatus done) override {
    runtime_.run({"delete", "--force", id_}, {}, [this, &cgroup, done = std::move(done)](Status deleted) mutable {
      Status unmounted = unmount_host_rootfs(rootfs_, bundle_);
      if (!deleted || !unmounted) return done(deleted ? unmounted : deleted);
      // The runtime removes its cgroup, but not while a slowly dying process is still counted in it.
      remove_cgroup(context_.loop, cgroup.host(), cgroup.path(), std::move(done));
    });
  }

 private:
  using Run = std::shared_ptr<RuntimeRun>;

  Result<Run> prepare(bool terminal);
  Result<Run> prepare_exec(const std::vector<std::string>& env, const CommandSpec& command);
  void create(bool terminal, Stdio stdio, Done<StartedContainer> done);
  void run_start(const Run& run, Done<StartedContainer> done);
  void undo_start(Error error, Done<StartedContainer> done);

  Context& context_;
  std::string id_;
  std::string bundle_;
  RootfsSpec rootfs_;  // mounted by start()
  std::string cgroup_path_;
  OciRuntime runtime_;
  std::weak_ptr<Attempt> starting_;  // the current step of a start
};

Result<OciHandler::Run> OciHandler::prepare(bool terminal) {
  auto run = std::make_shared<RuntimeRun>(context_.reaper.hold(), runtime_.fresh_path(".pid"));
  if (!terminal) return run;
  std::string name = runtime_.fresh_path(".sock").substr(bundle_.size() + 1);
  run->console = TRY(ConsoleSocket::listen(bundle_, name));
  return run;
}

void OciHandler::start(StartOrder order, Stdio stdio, Done<StartedContainer> done) {
  rootfs_ = std::move(order.rootfs);
  cgroup_path_ = std::move(order.cgroup_path);
  starting_ = mount_host_rootfs(context_.loop, context_.reaper, rootfs_, bundle_, order.spec,
                                [this, terminal = order.spec.command.terminal, stdio = std::move(stdio),
                                 done = std::move(done)](Status mounted) mutable {
                                  TRY_OR(done, std::move(mounted));
                                  create(terminal, std::move(stdio), std::move(done));
                                });
}

void OciHandler::create(bool terminal, Stdio stdio, Done<StartedContainer> done) {
  Result<Run> prepared = prepare(terminal);
  if (!prepared) {
    undo_host_rootfs(rootfs_, bundle_);
    return done(std::unexpected(std::move(prepared.error())));
  }
  const Run& run = *prepared;
  starting_ = runtime_.run(run->arguments({"create", "--bundle", bundle_}, id_), stdio,
                           [this, run, done = std::move(done)](Status created) mutable {
                             if (!created) return undo_start(std::move(created.error()), std::move(done));
                             run_start(run, std::move(done));
                           });
}

void OciHandler::run_start(const Run& run, Done<StartedContainer> done) {
  Result<Started> created = run->take_started();
  if (!created) return undo_start(std::move(created.error()), std::move(done));
  starting_ = runtime_.run(
      {"start", id_}, {},
      [this, run, started = std::move(*created), done = std::move(done)](Status ran) mutable {
        if (!ran) return undo_start(std::move(ran.error()), std::move(done));
        done(StartedContainer{std::move(started), Cgroup::open(context_.cgroups, cgroup_path_)});
      });
}

void OciHandler::undo_start(Error error, Done<StartedContainer> done) {
  runtime_.run({"delete", "--force", id_}, {},
               [this, error = std::move(error), done = std::move(done)](Status) mutable {
                 undo_host_rootfs(rootfs_, bundle_);
                 // A runtime that was killed may have left processes that its delete does not know about.
                 remove_cgroup(context_.loop, context_.cgroups, cgroup_path_,
                               [error = std::move(error), done = std::move(done)](Status) mutable {
                                 done(std::unexpected(std::move(error)));
                               });
               });
}

Result<OciHandler::Run> OciHandler::prepare_exec(const std::vector<std::string>& env, const CommandSpec& command) {
  Run run = TRY(prepare(command.terminal));
  run->process_file = runtime_.fresh_path(".json");
  TRY(write_exec_process(bundle_ + "/config.json", run->process_file, env, command));
  return run;
}

std::weak_ptr<Attempt> OciHandler::exec(const ExecTarget& target, const CommandSpec& command, Stdio stdio,
                                        Done<Started> done) {
  Result<Run> prepared = prepare_exec(target.spec.process.env, command);
  if (!prepared) return cannot_begin(done, std::move(prepared.error()));
  const Run& run = *prepared;
  return runtime_.run(run->arguments({"exec", "--detach", "--process", run->process_file}, id_), stdio,
                      [run, done = std::move(done)](Status ran) mutable {
                        TRY_OR(done, std::move(ran));
                        done(run->take_started());
                      });
}

}  // namespace

std::unique_ptr<Handler> make_oci_handler(Context& context, std::string id, std::string bundle, std::string binary,
                                          std::string root) {
  return std::make_unique<OciHandler>(context, std::move(id), std::move(bundle), std::move(binary), std::move(root));
}

}  // namespace keelson
