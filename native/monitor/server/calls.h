// Dispatch of requests: each op of PROTOCOL.md to the function that does it.
#pragma once

#include "monitor/pod/pod.h"
#include "monitor/pod/shutdown.h"

namespace keelson {

class Calls {
 public:
  Calls(Context& context, Pod& pod, Shutdown& shutdown) : context_(context), pod_(pod), shutdown_(shutdown) {}
  void handle(const std::shared_ptr<Connection>& client, const Json& request);

 private:
  using Client = std::shared_ptr<Connection>;

  void hello(const Client& client, const Json& request);
  void state(const Client& client, const Json& request);
  void start(const Client& client, const Json& request);
  void stop(const Client& client, const Json& request);
  void kill(const Client& client, const Json& request);
  void remove(const Client& client, const Json& request);
  void exec(const Client& client, const Json& request);
  void attach(const Client& client, const Json& request);
  void resize(const Client& client, const Json& request);
  void reopen_log(const Client& client, const Json& request);
  void update(const Client& client, const Json& request);
  void port_forward(const Client& client, const Json& request);
  void watch(const Client& client, const Json& request);
  void shutdown(const Client& client, const Json& request);

  Status take_stream(const Client& client);

  Context& context_;
  Pod& pod_;
  Shutdown& shutdown_;
  std::shared_ptr<char> streams_ = std::make_shared<char>();  // shared with the connection of each
};

}  // namespace keelson
