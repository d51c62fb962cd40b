// An exec session: a process in a container, its streams on a connection.
#pragma once

#include <memory>

#include "monitor/pod/container.h"

namespace keelson {

// A client's request; the command is passed on unchanged.
struct ExecRequest {
  CommandSpec command;
  bool input = false;
  bool brief = false;  // STARTED only if it runs for a while
  std::chrono::milliseconds limit{0};  // 0: none
};

// Answers on `client`: STARTED (with `brief` 50 ms later, or not at all if the process has exited by then), output, and
// REPLY or ERROR.
//
// The REPLY is sent when the process has exited and its streams have ended. If another process (a daemon that it
// started) keeps them open, the session ends one second after the exit, with the output that is in the pipes then. If
// the client disconnects, the process is killed; with a terminal it gets SIGHUP first, and is killed 5 seconds later.
void begin_exec(Context& context, const std::shared_ptr<Connection>& client, Container& container, ExecRequest request);

}  // namespace keelson
