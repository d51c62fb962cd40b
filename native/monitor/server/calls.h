// The calls of PROTOCOL.md: a request is checked here, once, and handed to what does it.
#pragma once

#include "monitor/pod/pod.h"

namespace keelson {

// What the calls work on; all of it outlives them.
struct Monitor {
  Context& context;
  Pod& pod;
  Shutdown& shutdown;
};

class Calls {
 public:
  explicit Calls(Monitor monitor) : monitor_(monitor) {}
  void handle(const std::shared_ptr<Connection>& client, const Json& request);

 private:
  Status take_stream(Connection& client, bool is_brief);

  Monitor monitor_;
  std::shared_ptr<char> streams_ = std::make_shared<char>();  // shared with the connection of each
};

}  // namespace keelson
