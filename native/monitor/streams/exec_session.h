// An exec session: a process in a container, its streams on a connection.
#pragma once

#include <memory>

#include "monitor/pod/container.h"

namespace keelson {

// What a client asks for; its command is handed on as it is.
struct ExecRequest {
  CommandSpec command;
  bool input = false;
  bool brief = false;  // STARTED only if it runs for a while
  std::chrono::milliseconds limit{0};  // 0: none
};

// Answers on `client`: STARTED (of a brief one 50 ms later, or not at all when it has ended by then), output, and REPLY or
// ERROR.
//
// The REPLY comes when the process has exited and its streams have ended. Somebody else may keep
// them open (a daemon it left behind): one second after the exit the session ends behind what
// stands in the pipes. A client that goes away takes the process with it.
void begin_exec(Context& context, const std::shared_ptr<Connection>& client, Container& container, ExecRequest request);

}  // namespace keelson
