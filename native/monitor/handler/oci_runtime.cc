// Sources: runc(8), crun(1), unix(7).
#include "monitor/handler/oci_runtime.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <functional>
#include <optional>

#include "common/file.h"
#include "common/json.h"
#include "common/program.h"
#include "monitor/server/server.h"
#include "monitor/setup/spawn.h"

namespace keelson {

namespace {

using namespace std::chrono_literals;

constexpr auto run_limit = 30s;
constexpr size_t max_log = 64 << 10;

// Reopens the stream for reading, whether it is a file or a pipe (whose own reader keeps its end and gets what is left
// unread here). The runtime's stderr is the same stream as the container's: create and exec share it.
Fd open_for_reading(int stream) {
  return Fd(open(("/proc/self/fd/" + std::to_string(stream)).c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
}

std::string read_text(const Fd& stream) {
  char text[4096];
  ssize_t size = stream ? read(stream.get(), text, sizeof text) : 0;
  return std::string(text, size > 0 ? static_cast<size_t>(size) : 0);
}

std::string last_line(std::string_view text) {
  while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  return std::string(text.substr(text.rfind('\n') + 1));
}

// The last entry of a JSON log: an object on one line, or on several lines all but the first of which are indented
// (crun 1.28).
std::string_view last_entry(std::string_view text) {
  auto start = text.rfind("\n{");
  return start == text.npos ? text : text.substr(start + 1);
}

// The message of the last entry of a log (`--log-format json`).
std::string logged_message(const std::string& path) {
  auto text = read_file(path, max_log);
  if (!text) return {};
  auto entry = parse_json(last_entry(*text));
  return entry ? std::string((*entry)["msg"].string()) : last_line(*text);
}

// Runtimes have no error codes, only messages: these are runc's and crun's for a command that cannot be executed.
bool is_about_the_command(std::string_view message) {
  return message.find("executable file") != message.npos || message.find("exec: \"") != message.npos ||
         message.find("exec format error") != message.npos || message.find("Exec format error") != message.npos;
}

struct RunEnd {
  std::optional<Error> killed;  // set if the monitor killed it: the reason
  ProcessExit exit;
};

// Owned by the reaper's handler until the runtime exits.
struct Run : Attempt {
  pid_t pid = 0;
  std::move_only_function<void(RunEnd)> done;
  Loop::Timer limit;
  std::optional<Error> killed;

  void abort(Error why) override {
    if (killed) return;
    killed = std::move(why);
    kill_with_descendants(pid);
  }
};

using Streams = std::array<int, 3>;  // -1: /dev/null

Result<pid_t> spawn_runtime(const std::vector<std::string>& argv, const Streams& streams) {
  const std::vector<std::string> environment{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"};
  pid_t pid = 0;
  if (int error = spawn_program({argv[0], argv, environment, {}, streams}, pid)) {
    return fail_errno("run " + argv[0], error);
  }
  return pid;
}

std::weak_ptr<Attempt> watch_run(Context& context, pid_t pid, std::string binary,
                                 std::move_only_function<void(RunEnd)> done) {
  auto run = std::make_shared<Run>();
  run->pid = pid;
  run->done = std::move(done);
  run->limit = context.loop.after(run_limit, [weak = std::weak_ptr(run), binary = std::move(binary)] {
    auto held = weak.lock();
    if (!held) return;
    held->abort({Kind::timeout, "run " + binary, {}, 0,
                 "it did not exit within " + std::to_string(run_limit / 1s) + " s and was killed"});
  });
  context.reaper.expect(pid, [run](const ProcessExit& exit) {
    run->limit.cancel();
    run->done(RunEnd{std::move(run->killed), exit});
  });
  return run;
}

}  // namespace

std::string OciRuntime::fresh_path(std::string_view suffix) {
  return directory_ + "/runtime-" + std::to_string(++runs_) + std::string(suffix);
}

std::weak_ptr<Attempt> OciRuntime::run(std::vector<std::string> arguments, const Stdio& stdio, DoneStatus done) {
  std::string log = fresh_path(".log");
  std::string step = binary_ + " " + arguments[0];
  std::vector<std::string> argv{binary_, "--root", root_, "--log", log, "--log-format", "json"};
  argv.insert(argv.end(), std::make_move_iterator(arguments.begin()), std::make_move_iterator(arguments.end()));
  Streams streams{stdio.in.get(), stdio.out.get(), stdio.err.get()};
  Fd own_stderr;
  if (!stdio.err) {
    own_stderr = Fd(open(directory_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    streams[2] = own_stderr.get();
  }
  Fd stderr_reader = open_for_reading(streams[2]);
  OomScore::Original score(context_.oom_score);
  Result<pid_t> pid = spawn_runtime(argv, streams);
  if (!pid) return cannot_begin(done, std::move(pid.error()));
  return watch_run(context_, *pid, binary_,
                   [log, stderr_reader = std::move(stderr_reader), step = std::move(step),
                    done = std::move(done)](RunEnd end) mutable {
                     std::string message = logged_message(log);
                     unlink(log.c_str());
                     if (end.killed) return done(fail(end.killed->kind, step, end.killed->detail));
                     if (end.exit.code == 0) return done({});
                     if (message.empty()) message = last_line(read_text(stderr_reader));
                     if (message.empty()) message = "it exited with code " + std::to_string(end.exit.code);
                     done(fail(is_about_the_command(message) ? Kind::not_executable : Kind::system, step, message));
                   });
}

ConsoleSocket::~ConsoleSocket() {
  if (listener_) unlinkat(directory_.get(), name_.c_str(), 0);
}

Result<ConsoleSocket> ConsoleSocket::listen(const std::string& directory, const std::string& name) {
  ConsoleSocket made;
  made.directory_ = TRY(open_file(directory, O_PATH | O_DIRECTORY));
  made.name_ = name;
  // A bundle's path may be longer than a socket address; the path through the directory's descriptor is short.
  made.path_ = "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(made.directory_.get()) + "/" + name;
  made.listener_ = TRY(listen_at(made.directory_, name, 1));
  return made;
}

Result<Fd> ConsoleSocket::receive() const {
  Fd peer(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!peer) return fail_errno("accept on the console socket");
  ssize_t size = 0;
  Fd terminal = receive_descriptor(peer.get(), size);
  if (size < 0) return fail_errno("receive the terminal");
  if (!terminal) return fail(Kind::system, "receive the terminal", "the runtime did not send a descriptor");
  if (fcntl(terminal.get(), F_SETFL, fcntl(terminal.get(), F_GETFL) | O_NONBLOCK) != 0) {
    return fail_errno("make the terminal non-blocking");
  }
  return terminal;
}

}  // namespace keelson
