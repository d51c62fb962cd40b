// The pod: its containers by id, the clients that watch them, and its shutdown.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "monitor/pod/container.h"
#include "monitor/server/connection.h"
#include "monitor/server/server.h"

namespace keelson {

struct OciBinary {
  std::string binary;
  std::string root;
};

class Pod {
 public:
  Pod(Context& context, std::string exits_dir) : context_(context), exits_dir_(std::move(exits_dir)) {}

  // `binary` selects an OCI runtime; without it the native handler is used. A container that fails to start is
  // forgotten. The start can be aborted through the returned container.
  std::weak_ptr<Container> start(StartRequest request, std::optional<OciBinary> binary, Done<ContainerState> done);
  Result<std::shared_ptr<Container>> find(std::string_view id) const;
  void remove(std::string_view id, DoneStatus done);
  // Refuses further starts, aborts those in progress, and calls `then` when no container is starting any more.
  void close(Loop::Task then);
  // Watches the built-in init of a shared PID namespace, and reports its death unless end_init() caused it.
  void guard_init();
  // Kills that init, if there is one, and calls `then` once it has been reaped.
  void end_init(Loop::Task then);

  std::vector<std::shared_ptr<Container>> containers() const;
  // `[ContainerState …]` of all that have started.
  void write_states(JsonWriter& json) const;
  // Sends the complete state to `client`, and from then on every event. A client with more than 64 KiB of unread events
  // is dropped; it can reconnect and gets the complete state again.
  void watch(const std::shared_ptr<Connection>& client);

 private:
  Status may_start(const std::string& id) const;
  Status find_target(StartRequest& request) const;
  Container::Events events();
  void settle_close();
  void tell_watchers(std::string_view event);
  void forget(const std::string& id);

  Context& context_;
  std::string exits_dir_;
  bool closed_ = false;
  bool init_lost_ = false;  // the init died, and not by end_init()
  Loop::Task when_none_starting_;
  Loop::Task when_init_gone_;
  std::map<std::string, std::shared_ptr<Container>, std::less<>> containers_;
  std::vector<std::weak_ptr<Connection>> watchers_;
};

// Shuts down the pod, in this order: every container is stopped (SIGTERM, SIGKILL after the grace period), then removed
// with whatever is left in its cgroup; the shared init gets SIGKILL; namespaces, cgroup and socket are removed last.
class Shutdown {
 public:
  Shutdown(Context& context, Pod& pod, Server& server) : context_(context), pod_(pod), server_(server) {}
  // SIGTERM to every container, SIGKILL after `grace` (immediately if 0), then everything else; replies to `client` and
  // stops the loop. If something cannot be removed, the reply is an ERROR and the monitor keeps running, so that the
  // call can be retried. Concurrent calls get the same reply.
  void begin(std::chrono::milliseconds grace, const std::shared_ptr<Connection>& client);

 private:
  void stop_containers(std::chrono::milliseconds grace);
  void remove_containers();
  void end_init();
  void take_down();
  void count_down(void (Shutdown::*next)());
  void fail_all(const Error& error);

  Context& context_;
  Pod& pod_;
  Server& server_;
  bool running_ = false;
  uint64_t attempt_ = 0;
  std::vector<std::weak_ptr<Connection>> clients_;
  Loop::Timer deadline_;
  size_t left_ = 0;  // how many the current step still waits for, plus one for the step itself
  Status first_failure_;
};

}  // namespace keelson
