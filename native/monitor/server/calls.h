// The calls of PROTOCOL.md: each request is validated here, once, and dispatched.
#pragma once

#include "monitor/pod/pod.h"

namespace keelson {

// What the calls operate on; outlives them.
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
  std::shared_ptr<char> streams_ = std::make_shared<char>();  // held by the connection of each stream, to count them
};

}  // namespace keelson
