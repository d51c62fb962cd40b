#include "monitor/handler/program.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>

#include "monitor/setup/descendants.h"

namespace keelson {

namespace {

// Owned by the reaper's handler until the program has ended.
struct Run : Attempt {
  pid_t pid = 0;
  Done<ProgramEnd> done;
  Loop::Timer limit;
  std::optional<Error> killed;

  void abort(Error why) override {
    if (killed) return;
    killed = std::move(why);
    kill_with_descendants(pid);
  }
};

// Our own signal set-up (SIGCHLD blocked, SIGPIPE ignored) is not the program's.
int set_up(posix_spawn_file_actions_t& files, posix_spawnattr_t& attributes, ProgramStdio stdio) {
  int error = 0;
  const int wanted[3] = {stdio.in, stdio.out, stdio.err};
  for (int fd = 0; fd < 3 && error == 0; ++fd) {
    error = wanted[fd] >= 0 ? posix_spawn_file_actions_adddup2(&files, wanted[fd], fd)
                            : posix_spawn_file_actions_addopen(&files, fd, "/dev/null", O_RDWR, 0);
  }
  sigset_t none, pipe_signal;
  sigemptyset(&none);
  sigemptyset(&pipe_signal);
  sigaddset(&pipe_signal, SIGPIPE);
  if (error == 0) error = posix_spawnattr_setsigmask(&attributes, &none);
  if (error == 0) error = posix_spawnattr_setsigdefault(&attributes, &pipe_signal);
  if (error == 0) error = posix_spawnattr_setpgroup(&attributes, 0);
  if (error == 0) {
    error = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  }
  return error;
}

Result<pid_t> spawn(const std::vector<std::string>& argv, ProgramStdio stdio) {
  std::vector<char*> arguments;
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  char* environment[] = {path, nullptr};

  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  int error = posix_spawn_file_actions_init(&files);
  if (error != 0) return fail_errno("run " + argv[0], error);
  error = posix_spawnattr_init(&attributes);
  pid_t pid = 0;
  if (error == 0) {
    error = set_up(files, attributes, stdio);
    if (error == 0) error = posix_spawn(&pid, argv[0].c_str(), &files, &attributes, arguments.data(), environment);
    posix_spawnattr_destroy(&attributes);
  }
  posix_spawn_file_actions_destroy(&files);
  if (error != 0) return fail_errno("run " + argv[0], error);
  return pid;
}

}  // namespace

std::weak_ptr<Attempt> run_program(Loop& loop, Reaper& reaper, const std::vector<std::string>& argv,
                                   ProgramStdio stdio, std::chrono::milliseconds limit, Done<ProgramEnd> done) {
  auto pid = spawn(argv, stdio);
  if (!pid) {
    done(std::unexpected(pid.error()));
    return {};
  }
  auto run = std::make_shared<Run>();
  run->pid = *pid;
  run->done = std::move(done);
  run->limit = loop.after(limit, [weak = std::weak_ptr(run), program = argv[0], limit] {
    auto held = weak.lock();
    if (!held) return;
    held->abort({Kind::timeout, "run " + program, {}, 0,
                 "it did not end within " + std::to_string(limit / std::chrono::seconds(1)) + " s and was killed"});
  });
  reaper.expect(*pid, [run](const ProcessExit& exit) {
    run->limit.cancel();
    run->done(ProgramEnd{std::move(run->killed), exit});
  });
  return run;
}

}  // namespace keelson
