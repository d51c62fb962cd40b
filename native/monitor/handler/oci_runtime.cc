#include "monitor/handler/oci_runtime.h"

#include <fcntl.h>
#include <unistd.h>

#include <optional>

#include "monitor/pod/container.h"

namespace keelson {

namespace {

using namespace std::chrono_literals;

constexpr auto run_limit = 30s;
constexpr size_t max_words = 64 << 10;

// Opens the stream anew for reading, be it a file or a pipe (whose reader keeps its end, and reads what
// we leave). The runtime's complaints go where the container's stderr is to go: create and exec share it.
Fd open_for_reading(int stream) {
  return Fd(open(("/proc/self/fd/" + std::to_string(stream)).c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
}

std::string read_words(const Fd& stream) {
  char words[4096];
  ssize_t size = stream ? read(stream.get(), words, sizeof words) : 0;
  return std::string(words, size > 0 ? static_cast<size_t>(size) : 0);
}

std::string last_line(std::string_view text) {
  while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  return std::string(text.substr(text.rfind('\n') + 1));
}

// The message of the last entry of a log of JSON lines (`--log-format json`).
std::string logged_message(const std::string& path) {
  auto text = read_file(path, max_words);
  if (!text) return {};
  auto entry = parse_json(last_line(*text));
  return entry ? std::string((*entry)["msg"].string()) : last_line(*text);
}

// Runtimes have no error codes, only words: these are runc's and crun's for a command that cannot be executed.
bool is_about_the_command(std::string_view words) {
  return words.find("executable file") != words.npos || words.find("exec: \"") != words.npos ||
         words.find("exec format error") != words.npos || words.find("Exec format error") != words.npos;
}

}  // namespace

std::string OciRuntime::fresh_path(std::string_view suffix) {
  return directory_ + "/runtime-" + std::to_string(++runs_) + std::string(suffix);
}

std::weak_ptr<Attempt> OciRuntime::run(std::vector<std::string> arguments, ProgramStdio stdio, DoneStatus done) {
  std::string log = fresh_path(".log");
  std::string step = binary_ + " " + arguments[0];
  std::vector<std::string> argv{binary_, "--root", root_, "--log", log, "--log-format", "json"};
  argv.insert(argv.end(), std::make_move_iterator(arguments.begin()), std::make_move_iterator(arguments.end()));
  Fd own_stderr;
  if (stdio.err < 0) {
    own_stderr = Fd(open(directory_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    stdio.err = own_stderr.get();
  }
  Fd complaints = open_for_reading(stdio.err);
  OomScore::Original score(context_.oom_score);
  return run_program(context_.loop, context_.reaper, argv, stdio, run_limit,
              [log, complaints = std::move(complaints), step = std::move(step),
               done = std::move(done)](Result<ProgramEnd> end) mutable {
                std::string words = logged_message(log);
                unlink(log.c_str());
                if (!end) return done(std::unexpected(end.error()));
                if (end->killed) return done(std::unexpected(Error{end->killed->kind, step, {}, 0, end->killed->detail}));
                if (end->exit.code == 0) return done({});
                if (words.empty()) words = last_line(read_words(complaints));
                if (words.empty()) words = "it ended with exit code " + std::to_string(end->exit.code);
                done(fail(is_about_the_command(words) ? Kind::not_executable : Kind::system, step, words));
              });
}

}  // namespace keelson
