// Runs the setup of processes without the monitor around it, for setup*.test.ts:
//
//   setup-test run <pod dir> <bundle> [exec args …]   one pod with one container and, while it runs, one exec
//   setup-test bench <pod dir> <bundle> <count>       durations of the two ways to spawn, in microseconds
//   setup-test device-filter <v2 cgroup dir> <rules>  attaches a device program to a cgroup, rules as in config.json
//   setup-test page-rootfs <bundle>                   the bundle's root at <bundle>/rootfs, as on kernels before 6.7
//
// `run` reads <pod dir>/sandbox.json and the bundle's files. Streams 0, 1, 2 are the container's; events are written to
// descriptor 3 as one JSON object per line: started, exec, exited, error, destroyed.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <optional>

#include "common/file.h"
#include "monitor/cgroup/cgroup.h"
#include "monitor/cgroup/devices.h"
#include "monitor/server/loop.h"
#include "monitor/server/reaper.h"
#include "monitor/setup/container_exec.h"
#include "monitor/setup/container_init.h"
#include "monitor/setup/rootfs.h"

using namespace keelson;

// Between clone and execve nothing may allocate: the monitor's log thread could hold the heap's lock at the moment of the
// clone. The sanitizers have their own operator new.
#ifndef __SANITIZE_ADDRESS__
static const pid_t own_pid = getpid();

void* operator new(size_t size) {
  if (own_pid != 0 && getpid() != own_pid) abort();
  void* memory = malloc(size);
  if (memory == nullptr) abort();
  return memory;
}

void operator delete(void* memory) noexcept { free(memory); }
void operator delete(void* memory, size_t) noexcept { free(memory); }
#endif

namespace {

constexpr int news = 3;
constexpr size_t max_bundle_file = 4 << 20;

void tell(const JsonWriter& line) {
  std::string text = line.text() + "\n";
  if (write(news, text.data(), text.size()) < 0) _exit(2);
}

[[noreturn]] void give_up(const Error& error) {
  JsonWriter line;
  line.begin_object().key("event").value("error").key("kind").value(to_string(error.kind));
  line.key("step").value(error.step).key("errno").value(error.error_number);
  line.key("message").value(error.message()).end_object();
  tell(line);
  exit(1);
}

template <typename T>
T must(Result<T> result) {
  if (!result) give_up(result.error());
  return std::move(*result);
}

void must(Status status) {
  if (!status) give_up(status.error());
}

int64_t now_us() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000 + now.tv_nsec / 1000;
}

Fd copy_of(int fd) { return Fd(fcntl(fd, F_DUPFD_CLOEXEC, 10)); }

// A stream that the caller closed (`<&-`) is missing, as the protocol allows.
Stdio own_streams() { return {copy_of(0), copy_of(1), copy_of(2)}; }

// Copies a terminal to stream 1 until its last user has closed it (EIO).
void drain(int terminal) {
  for (;;) {
    pollfd readable = {terminal, POLLIN, 0};
    if (poll(&readable, 1, 10'000) <= 0) return;
    char part[4096];
    ssize_t size = read(terminal, part, sizeof part);
    if (size <= 0 || write(1, part, static_cast<size_t>(size)) < 0) return;
  }
}

// What the setup needs from a monitor: the loop and the reaper.
struct Surroundings {
  std::unique_ptr<Loop> loop = must(Loop::create());
  Reaper reaper{*loop};

  Surroundings() { must(reaper.open()); }

  Result<Started> await(std::move_only_function<void(Done<Started>)> start) {
    std::optional<Result<Started>> result;
    start([&](Result<Started> started) {
      if (started) reaper.expect(started->pid, [this](const ProcessExit& exit) { end_with(exit); });
      result = std::move(started);
      loop->stop();
    });
    if (!result) must(loop->run());
    return std::move(*result);
  }

  // Of the process that was started last and has not been waited for.
  ProcessExit exit() {
    if (exits_.empty()) must(loop->run());
    ProcessExit exit = exits_.back();
    exits_.pop_back();
    return exit;
  }

 private:
  void end_with(const ProcessExit& exit) {
    exits_.push_back(exit);
    loop->stop();
  }

  std::vector<ProcessExit> exits_;
};

void wait_and_tell(Surroundings& around, const char* event, const Started& started) {
  if (started.sent) drain(started.sent.get());
  ProcessExit exit = around.exit();
  JsonWriter line;
  line.begin_object().key("event").value(event);
  line.key("exit_code").value(exit.code).key("signal").value(exit.signal).end_object();
  tell(line);
}

void remove_now(Cgroup& cgroup) {
  for (int attempt = 0; attempt < 500; ++attempt) {
    if (must(cgroup.remove())) return;
    usleep(1000);
  }
  give_up({Kind::timeout, "remove the cgroup", cgroup.path(), EBUSY, {}});
}

struct Bundle {
  std::string directory;
  ContainerSpec spec;
  RootfsSpec rootfs;
  SeccompFilter filter;  // <bundle>/seccomp.bpf, if it exists
};

Bundle read_bundle(std::string directory) {
  Bundle bundle{directory, must(parse_spec(must(read_file(directory + "/config.json", max_bundle_file)))),
                must(parse_rootfs(must(read_file(directory + "/rootfs.json", max_bundle_file)))), {}};
  const std::string filter = directory + "/seccomp.bpf";
  if (access(filter.c_str(), F_OK) == 0) bundle.filter = must(SeccompFilter::read(filter, bundle.spec.seccomp_flags));
  return bundle;
}

SandboxSpec read_sandbox(const std::string& pod_dir) {
  return must(parse_sandbox(must(read_file(pod_dir + "/sandbox.json", max_bundle_file))));
}

Sandbox make_sandbox(Surroundings& around, SandboxSpec spec, const CgroupHost& host, const std::string& pod_dir) {
  return must(create_sandbox(*around.loop, around.reaper, host, std::move(spec), pod_dir, [] {}));
}

void end_init(Sandbox& sandbox, const CgroupHost& host) {
  pid_t init = sandbox.init_pid;
  Status destroyed = destroy_sandbox(sandbox, host);
  if (init > 0) waitpid(init, nullptr, __WALL);
  must(destroyed);
}

Result<Started> about_container(Result<Started> started) {
  if (!started) return about(std::move(started), "container test");
  return started;
}

Result<Started> init(Surroundings& around, const Sandbox& sandbox, const Bundle& bundle, const Cgroup& cgroup) {
  const std::string id = "test";
  const PidTarget no_target;
  return about_container(around.await([&](Done<Started> done) {
    spawn_container_init(*around.loop, around.reaper,
                         {id, bundle.directory, sandbox, cgroup, bundle.spec, bundle.rootfs, bundle.filter, no_target},
                         bundle.spec.command.terminal ? Stdio{} : own_streams(), std::move(done));
  }));
}

Result<Started> exec(Surroundings& around, const Sandbox& sandbox, const Bundle& bundle, const Cgroup& cgroup,
                     const Started& container, std::vector<std::string> args) {
  const std::string id = "test";
  CommandSpec command = bundle.spec.command;
  command.args = std::move(args);
  return about_container(around.await([&](Done<Started> done) {
    spawn_container_exec(*around.loop, around.reaper,
                         {id, sandbox, cgroup, bundle.spec, container.pid, container.pidfd.get(), nullptr},
                         bundle.filter, command, command.terminal ? Stdio{} : own_streams(), std::move(done));
  }));
}

void exec_and_tell(Surroundings& around, const Sandbox& sandbox, const Bundle& bundle, const Cgroup& cgroup,
                   const Started& container, std::vector<std::string> args) {
  Result<Started> started = exec(around, sandbox, bundle, cgroup, container, std::move(args));
  if (started) return wait_and_tell(around, "exec", *started);
  JsonWriter line;
  line.begin_object().key("event").value("exec").key("kind").value(to_string(started.error().kind));
  line.key("message").value(started.error().message()).end_object();
  tell(line);
}

int run(const char* pod_dir, const char* directory, std::vector<std::string> exec_args) {
  Surroundings around;
  Bundle bundle = read_bundle(directory);
  SandboxSpec spec = read_sandbox(pod_dir);
  const CgroupHost host = spec.hierarchies;
  Sandbox sandbox = make_sandbox(around, std::move(spec), host, pod_dir);
  Result<Cgroup> made = Cgroup::create(host, bundle.spec.cgroups_path);
  if (!made) {
    end_init(sandbox, host);
    give_up(made.error());
  }
  Cgroup& cgroup = *made;
  Status applied = cgroup.apply(bundle.spec.resources);
  Result<Started> started = std::unexpected(Error{});
  if (applied) {
    started = init(around, sandbox, bundle, cgroup);
  } else {
    started = std::unexpected(applied.error());
  }
  if (started) {
    JsonWriter line;
    line.begin_object().key("event").value("started").key("pid").value(started->pid).end_object();
    tell(line);
    if (!exec_args.empty()) {
      exec_and_tell(around, sandbox, bundle, cgroup, *started, std::move(exec_args));
      kill(started->pid, SIGKILL);
    }
    wait_and_tell(around, "exited", *started);
  }
  must(cgroup.kill_all());
  remove_now(cgroup);
  end_init(sandbox, host);
  if (!started) give_up(started.error());
  JsonWriter line;
  line.begin_object().key("event").value("destroyed").end_object();
  tell(line);
  return 0;
}

struct Series {
  const char* name;
  std::vector<int64_t> times = {};

  void add(int64_t begin) { times.push_back(now_us() - begin); }
  void print() {
    std::ranges::sort(times);
    printf("%-24s p50 %6lld us  p95 %6lld us\n", name, static_cast<long long>(times[times.size() / 2]),
           static_cast<long long>(times[times.size() * 95 / 100]));
  }
};

int bench(const char* pod_dir, const char* directory, int count) {
  Surroundings around;
  Bundle bundle = read_bundle(directory);
  SandboxSpec spec = read_sandbox(pod_dir);
  const CgroupHost host = spec.hierarchies;
  int64_t begin = now_us();
  Sandbox sandbox = make_sandbox(around, std::move(spec), host, pod_dir);
  printf("%-24s     %6lld us\n", "create_sandbox", static_cast<long long>(now_us() - begin));
  Series parse{"parse_spec"}, create{"Cgroup::create"}, apply{"Cgroup::apply"}, inits{"container_init"}, execs{"container_exec"},
      death{"kill and reap"}, remove{"Cgroup::remove"};
  for (int round = 0; round < count; ++round) {
    begin = now_us();
    bundle = read_bundle(directory);
    parse.add(begin);
    // Every container has its own writable layer; cleaning a used one takes overlayfs milliseconds.
    for (std::string* layer : {&bundle.rootfs.upper, &bundle.rootfs.work}) {
      *layer += "-" + std::to_string(round);
      if (mkdir(layer->c_str(), 0755) != 0) give_up(fail_errno("make " + *layer).error());
    }
    begin = now_us();
    Cgroup cgroup = must(Cgroup::create(host, bundle.spec.cgroups_path));
    create.add(begin);
    begin = now_us();
    must(cgroup.apply(bundle.spec.resources));
    apply.add(begin);
    begin = now_us();
    Started container = must(init(around, sandbox, bundle, cgroup));
    inits.add(begin);
    for (int time = 0; time < 5; ++time) {
      begin = now_us();
      must(exec(around, sandbox, bundle, cgroup, container, {"/bin/true"}));
      execs.add(begin);
      around.exit();
    }
    begin = now_us();
    kill(container.pid, SIGKILL);
    around.exit();
    death.add(begin);
    begin = now_us();
    remove_now(cgroup);
    remove.add(begin);
  }
  for (Series* series : {&parse, &create, &apply, &inits, &execs, &death, &remove}) series->print();
  end_init(sandbox, host);
  return 0;
}

int filter(const char* cgroup, const char* rules_json) {
  Fd directory(open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory) give_up(fail_errno("open the cgroup").error());
  must(attach_device_filter(directory.get(), must(parse_device_rules(must(parse_json(rules_json))))));
  return 0;
}

// The root stays mounted.
class PageRootfs final : public Procedure {
 public:
  explicit PageRootfs(RootfsPlan plan) : plan_(std::move(plan)) {}
  void enter(const Child& child) override { close_descriptors(child); }
  void set_up(const Child& child) override {
    mount_rootfs_with_page(child, plan_.root);
    child.settle();
    _exit(0);
  }
  const LastSteps* last_steps() const override { return nullptr; }

 private:
  RootfsPlan plan_;
};

int page_rootfs(const std::string& bundle) {
  Surroundings around;
  PageRootfs procedure(plan_rootfs(must(parse_rootfs(must(read_file(bundle + "/rootfs.json", max_bundle_file)))), bundle, ""));
  must(spawn_and_wait(*around.loop, around.reaper, procedure, {}));
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  std::vector<std::string> words(arguments, arguments + count);
  if (count >= 4 && words[1] == "run") return run(arguments[2], arguments[3], {words.begin() + 4, words.end()});
  if (count == 5 && words[1] == "bench") return bench(arguments[2], arguments[3], atoi(arguments[4]));
  if (count == 4 && words[1] == "device-filter") return filter(arguments[2], arguments[3]);
  if (count == 3 && words[1] == "page-rootfs") return page_rootfs(words[2]);
  fputs("usage: setup-test run|bench|device-filter|page-rootfs …, see setup_test.cc\n", stderr);
  return 2;
}
