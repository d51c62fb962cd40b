#include "oci_runtime.h"

#include <fcntl.h>
#include <unistd.h>

#include <optional>

#include "container.h"

namespace keelson {

namespace {

using namespace std::chrono_literals;

constexpr auto run_limit = 30s;
constexpr size_t max_words = 64 << 10;

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

void OciRuntime::run(std::vector<std::string> arguments, ProgramStdio stdio, DoneStatus done) {
  std::string log = fresh_path(".log");
  std::string complaint = fresh_path(".stderr");
  std::string verb = arguments[0];
  std::vector<std::string> argv{binary_, "--root", root_, "--log", log, "--log-format", "json"};
  argv.insert(argv.end(), std::make_move_iterator(arguments.begin()), std::make_move_iterator(arguments.end()));
  Fd own_stderr;
  if (stdio.err < 0) {
    own_stderr = Fd(open(complaint.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    stdio.err = own_stderr.get();
  }
  run_program(context_.loop, context_.reaper, argv, stdio, run_limit,
              [log, complaint, step = binary_ + " " + verb, done = std::move(done)](Result<ProgramEnd> end) mutable {
                std::string words = logged_message(log);
                if (words.empty()) words = last_line(read_file(complaint, max_words).value_or(""));
                unlink(log.c_str());
                unlink(complaint.c_str());
                if (!end) return done(std::unexpected(end.error()));
                if (end->timed_out) return done(fail(Kind::timeout, step, "it did not end within 30 s and was killed"));
                if (end->exit.code == 0) return done({});
                if (words.empty()) words = "it ended with exit code " + std::to_string(end->exit.code);
                done(fail(is_about_the_command(words) ? Kind::not_executable : Kind::system, step, words));
              });
}

}  // namespace keelson
