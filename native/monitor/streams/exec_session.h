// An exec session: a process in a container, its streams on a connection.
#pragma once

#include <memory>

#include "monitor/pod/container.h"

namespace keelson {

struct ExecCall {
  std::vector<std::string> args;
  bool terminal = false;
  bool input = false;
  std::chrono::milliseconds limit{0};  // 0: none
  uint16_t columns = 0;
  uint16_t rows = 0;
};

// Answers on `client`: STARTED, output, and REPLY or ERROR.
//
// The REPLY comes when the process has exited and its streams have ended. Somebody else may keep
// them open (a daemon it left behind): one second after the exit the session ends behind what
// stands in the pipes. A client that goes away takes the process with it.
void exec(Context& context, const std::shared_ptr<Connection>& client, Container& container, ExecCall call);

}  // namespace keelson
