// Runs an OCI runtime binary (runc, crun …) without blocking the loop, with a deadline, and turns its failure into an
// Error.
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
  // The files of each run are created in `directory` and removed after it.
  OciRuntime(Context& context, std::string binary, std::string root, std::string directory)
      : context_(context), binary_(std::move(binary)), root_(std::move(root)), directory_(std::move(directory)) {}

  // Runs `<binary> --root … <arguments>` in its own session, for at most 30 s; after that, or when aborted, it is
  // killed together with its descendants. On failure the Error contains the runtime's own message.
  // The streams are duplicated and may be closed when this returns; a missing one is /dev/null.
  std::weak_ptr<Attempt> run(std::vector<std::string> arguments, const Stdio& stdio, DoneStatus done);
  // A path in the directory that no earlier run has used.
  std::string fresh_path(std::string_view suffix);

 private:
  Context& context_;
  std::string binary_;
  std::string root_;
  std::string directory_;
  int runs_ = 0;
};

// The socket over which the runtime passes the master of a terminal (runc's docs/terminals.md).
class ConsoleSocket {
 public:
  ConsoleSocket() = default;
  ConsoleSocket(ConsoleSocket&&) noexcept = default;
  ConsoleSocket& operator=(ConsoleSocket&&) noexcept = default;
  ~ConsoleSocket();

  // Listens at `directory`/`name`. Removes the file when destroyed.
  static Result<ConsoleSocket> listen(const std::string& directory, const std::string& name);
  // Its path, short enough for a socket address and valid as long as this object exists.
  const std::string& path() const { return path_; }
  // The descriptor sent by the runtime, made non-blocking; call this after the runtime has exited.
  Result<Fd> receive() const;

 private:
  Fd directory_;
  std::string name_;
  std::string path_;
  Fd listener_;
};

}  // namespace keelson
