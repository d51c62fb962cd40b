// Runs an OCI runtime binary (runc, crun …) beside the loop, with a deadline, and turns its failure into an Error.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"
#include "common/fd.h"
#include "monitor/handler/handler.h"
#include "monitor/setup/child.h"

namespace keelson {

class OciRuntime {
 public:
  // `directory` takes the files of each run, which are removed after it.
  OciRuntime(Context& context, std::string binary, std::string root, std::string directory)
      : context_(context), binary_(std::move(binary)), root_(std::move(root)), directory_(std::move(directory)) {}

  // Runs `<binary> --root … <arguments>` in a session of its own, for at most 30 s; then, or when it is broken
  // off, it is killed with all it has begun. On failure the Error has the runtime's own words.
  // The streams are copied and may be closed when this returns; one that is missing is /dev/null.
  std::weak_ptr<Attempt> run(std::vector<std::string> arguments, const Stdio& stdio, DoneStatus done);
  // A path in the directory that no earlier run has had.
  std::string fresh_path(std::string_view suffix);

 private:
  Context& context_;
  std::string binary_;
  std::string root_;
  std::string directory_;
  int runs_ = 0;
};

// The socket over which the runtime hands us a terminal's master (runc's docs/terminals.md).
class ConsoleSocket {
 public:
  ConsoleSocket() = default;
  ConsoleSocket(ConsoleSocket&&) noexcept = default;
  ConsoleSocket& operator=(ConsoleSocket&&) noexcept = default;
  ~ConsoleSocket();

  // Listens at `directory`/`name`. Removes the file when destroyed.
  static Result<ConsoleSocket> listen(const std::string& directory, const std::string& name);
  // A path to it that fits a socket address, for as long as this object lives.
  const std::string& path() const { return path_; }
  // The descriptor that the runtime has sent, made non-blocking; call it when the runtime has ended.
  Result<Fd> receive() const;

 private:
  Fd directory_;
  std::string name_;
  std::string path_;
  Fd listener_;
};

}  // namespace keelson
