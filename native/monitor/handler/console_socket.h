// The socket over which an OCI runtime hands us a terminal's master (runc's docs/terminals.md).
#pragma once

#include <string>

#include "common/error.h"
#include "common/fd.h"

namespace keelson {

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
