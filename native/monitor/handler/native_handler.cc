#include "monitor/handler/native_handler.h"

#include <csignal>
#include <optional>
#include <utility>

#include "monitor/cgroup/cgroup.h"
#include "monitor/cgroup/oom.h"
#include "monitor/setup/container_init.h"

namespace keelson {

namespace {

class NativeHandler : public Handler {
 public:
  explicit NativeHandler(Context& context) : context_(context) {}

  void start(StartOrder order, Stdio stdio, Done<StartedContainer> done) override {
    if (!order.seccomp_filter_path.empty()) {
      filter_ = TRY_OR(done, SeccompFilter::read(order.seccomp_filter_path, order.spec.seccomp_flags));
    }
    cgroup_ = TRY_OR(done, Cgroup::create(context_.cgroups, order.cgroup_path));
    if (Status applied = cgroup_->apply(order.spec.resources); !applied) {
      return undo(std::move(applied.error()), std::move(done));
    }
    OomScore::Original score(context_.oom_score);
    const InitOrder init{order.id,     order.bundle, context_.sandbox, *cgroup_,
                         order.spec,   order.rootfs, filter_,          order.pid_target,
                         context_.empty_mounts.get()};
    starting_ = spawn_container_init(context_.loop, context_.reaper, init, std::move(stdio),
                                     [this, done = std::move(done)](Result<Started> started) mutable {
                                       if (!started) return undo(cause_of(std::move(started.error())), std::move(done));
                                       Cgroup cgroup = *std::exchange(cgroup_, std::nullopt);
                                       done(StartedContainer{std::move(*started), std::move(cgroup)});
                                     });
  }

  std::weak_ptr<Attempt> exec(const ExecTarget& target, const CommandSpec& command, Stdio stdio,
                              Done<Started> done) override {
    OomScore::Original score(context_.oom_score);
    return spawn_container_exec(context_.loop, context_.reaper, target, filter_, command, std::move(stdio),
                                std::move(done));
  }

  void abort_start(Error why) override {
    auto start = starting_.lock();
    if (!start) return;
    start->abort(std::move(why));
    // A frozen process (or one that joined a frozen cgroup) dies only when thawed.
    cgroup_->thaw();
  }

  void signal(pid_t init, int signal, DoneStatus done) override {
    // Not reaped yet, so the pid cannot have been reused.
    if (::kill(init, signal) != 0) return done(fail_errno("send signal " + std::to_string(signal)));
    done({});
  }

  void remove(const Cgroup& cgroup, DoneStatus done) override {
    remove_cgroup(context_.loop, cgroup.host(), cgroup.path(), std::move(done));
  }

 private:
  // The OOM killer leaves only a dead process, or a system call that failed.
  Error cause_of(Error error) const {
    if (error.kind != Kind::system || !has_oom_kill(*cgroup_)) return error;
    return {Kind::limit, std::move(error.step), {}, 0, "the kernel killed it for lack of memory before its execve"};
  }

  void undo(Error error, Done<StartedContainer> done) {
    remove_cgroup(context_.loop, context_.cgroups, cgroup_->path(),
                  [error = std::move(error), done = std::move(done)](Status) mutable {
                    done(std::unexpected(std::move(error)));
                  });
  }

  Context& context_;
  SeccompFilter filter_;  // for every process of the container
  std::weak_ptr<Attempt> starting_;
  std::optional<Cgroup> cgroup_;  // until the container has started
};

}  // namespace

std::unique_ptr<Handler> make_native_handler(Context& context) { return std::make_unique<NativeHandler>(context); }

}  // namespace keelson
