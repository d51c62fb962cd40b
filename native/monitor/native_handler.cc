// The native handler: the cgroup here, everything else by process.h.
#include <csignal>

#include "handler.h"

namespace keelson {

namespace {

class NativeHandler : public Handler {
 public:
  explicit NativeHandler(Context& context) : context_(context) {}

  void start(StartOrder order, const ContainerSpec& spec, Stdio stdio, Done<Launched> done) override {
    auto cgroup = Cgroup::create(context_.cgroups, order.cgroup_path);
    if (!cgroup) return done(std::unexpected(cgroup.error()));
    if (Status applied = cgroup->apply(spec.resources); !applied) {
      return undo(std::move(*cgroup), applied.error(), std::move(done));
    }
    auto started = bear_init(order, spec, *cgroup, std::move(stdio));
    if (!started) return undo(std::move(*cgroup), started.error(), std::move(done));
    done(Launched{std::move(*started), std::move(*cgroup)});
  }

  void exec(ExecOrder order, const ContainerSpec& spec, const Cgroup& cgroup, Stdio stdio,
            Done<Started> done) override {
    ProcessSpec process = spec.process;
    process.args = std::move(order.args);
    process.terminal = order.terminal;
    process.columns = order.columns;
    process.rows = order.rows;
    done(bear_exec(order, spec, process, cgroup, std::move(stdio)));
  }

  void signal(pid_t init, int signal, DoneStatus done) override {
    // Not reaped yet, so the pid is still ours.
    if (::kill(init, signal) != 0) return done(fail_errno("send signal " + std::to_string(signal)));
    done({});
  }

  void remove(Cgroup& cgroup, DoneStatus done) override { remove_cgroup(context_.loop, cgroup, std::move(done)); }

 private:
  Result<Started> bear_init(const StartOrder& order, const ContainerSpec& spec, const Cgroup& cgroup, Stdio stdio) {
    OomScore::Original score(context_.oom_score);
    return start_init(context_.sandbox, order.request, spec, order.rootfs, cgroup, std::move(stdio));
  }

  Result<Started> bear_exec(const ExecOrder& order, const ContainerSpec& spec, const ProcessSpec& process,
                            const Cgroup& cgroup, Stdio stdio) {
    OomScore::Original score(context_.oom_score);
    return start_exec(context_.sandbox, order.request, spec, process, cgroup, std::move(stdio));
  }

  void undo(Cgroup cgroup, Error error, Done<Launched> done) {
    auto held = std::make_shared<Cgroup>(std::move(cgroup));
    remove_cgroup(context_.loop, *held, [held, error = std::move(error), done = std::move(done)](Status) mutable {
      done(std::unexpected(std::move(error)));
    });
  }

  Context& context_;
};

}  // namespace

std::unique_ptr<Handler> make_native_handler(Context& context) { return std::make_unique<NativeHandler>(context); }

}  // namespace keelson
