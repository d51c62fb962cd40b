// The native handler: the cgroup here, everything else by process.h.
#include <csignal>

#include "monitor/handler/handler.h"

namespace keelson {

namespace {

class NativeHandler : public Handler {
 public:
  explicit NativeHandler(Context& context) : context_(context) {}

  void start(StartOrder order, const ContainerSpec& spec, Stdio stdio, Done<Launched> done) override {
    auto made = Cgroup::create(context_.cgroups, order.cgroup_path);
    if (!made) return done(std::unexpected(made.error()));
    auto cgroup = std::make_shared<Cgroup>(std::move(*made));
    if (Status applied = cgroup->apply(spec.resources); !applied) {
      return undo(std::move(cgroup), applied.error(), std::move(done));
    }
    starting_cgroup_ = cgroup;
    OomScore::Original score(context_.oom_score);
    starting_ = start_init(start_context(), order.request, spec, order.rootfs, *cgroup, std::move(stdio),
                           [this, cgroup, done = std::move(done)](Result<Started> started) mutable {
                             if (!started) return undo(std::move(cgroup), std::move(started.error()), std::move(done));
                             done(Launched{std::move(*started), std::move(*cgroup)});
                           });
  }

  void abort_start(Error why) override {
    auto start = starting_.lock();
    if (!start) return;
    start->abort(std::move(why));
    // What somebody froze (or what froze with the cgroup it joined) dies only when thawed.
    if (auto cgroup = starting_cgroup_.lock()) cgroup->thaw();
  }

  std::weak_ptr<Attempt> exec(ExecOrder order, const ContainerSpec& spec, const Cgroup& cgroup, Stdio stdio,
                              Done<Started> done) override {
    ProcessSpec process = spec.process;
    process.args = std::move(order.args);
    process.terminal = order.terminal;
    process.columns = order.columns;
    process.rows = order.rows;
    OomScore::Original score(context_.oom_score);
    return start_exec(start_context(), order.request, spec, process, cgroup, std::move(stdio), std::move(done));
  }

  void signal(pid_t init, int signal, DoneStatus done) override {
    // Not reaped yet, so the pid is still ours.
    if (::kill(init, signal) != 0) return done(fail_errno("send signal " + std::to_string(signal)));
    done({});
  }

  void remove(Cgroup& cgroup, DoneStatus done) override { remove_cgroup(context_.loop, cgroup, std::move(done)); }

 private:
  StartContext start_context() const { return {context_.loop, context_.reaper, context_.sandbox}; }

  void undo(std::shared_ptr<Cgroup> cgroup, Error error, Done<Launched> done) {
    remove_cgroup(context_.loop, *cgroup, [cgroup, error = std::move(error), done = std::move(done)](Status) mutable {
      done(std::unexpected(std::move(error)));
    });
  }

  Context& context_;
  std::weak_ptr<Attempt> starting_;
  std::weak_ptr<Cgroup> starting_cgroup_;
};

}  // namespace

std::unique_ptr<Handler> make_native_handler(Context& context) { return std::make_unique<NativeHandler>(context); }

}  // namespace keelson
