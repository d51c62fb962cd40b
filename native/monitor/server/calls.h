// The calls of PROTOCOL.md: a request is checked here, once, and handed to what does it.
#pragma once

#include "monitor/pod/pod.h"

namespace keelson {

class Calls {
 public:
  Calls(Context& context, Pod& pod, Shutdown& shutdown) : context_(context), pod_(pod), shutdown_(shutdown) {}
  void handle(const std::shared_ptr<Connection>& client, const Json& request);

 private:
  using Client = std::shared_ptr<Connection>;

  // Each answers `client`, now or later, or fails at once, which handle() answers.
  Status hello(const Client& client, const Json& request);
  Status state(const Client& client, const Json& request);
  Status start(const Client& client, const Json& request);
  Status stop(const Client& client, const Json& request);
  Status kill(const Client& client, const Json& request);
  Status remove(const Client& client, const Json& request);
  Status exec(const Client& client, const Json& request);
  Status attach(const Client& client, const Json& request);
  Status resize(const Client& client, const Json& request);
  Status reopen_log(const Client& client, const Json& request);
  Status update(const Client& client, const Json& request);
  Status port_forward(const Client& client, const Json& request);
  Status watch(const Client& client, const Json& request);
  Status shutdown(const Client& client, const Json& request);

  Status take_stream(const Client& client);
  // The container that the request names.
  Result<std::shared_ptr<Container>> find(const Json& request) const;

  Context& context_;
  Pod& pod_;
  Shutdown& shutdown_;
  std::shared_ptr<char> streams_ = std::make_shared<char>();  // shared with the connection of each
};

}  // namespace keelson
