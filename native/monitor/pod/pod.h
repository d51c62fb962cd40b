// The pod: its containers by id, those who watch them, and how all of it is taken down.
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

  // `binary` chooses an OCI runtime, absent: the native handler. A container that fails to start is forgotten.
  // What is returned can be told to break the start off.
  std::weak_ptr<Container> start(StartRequest request, std::optional<OciBinary> binary, Done<ContainerState> done);
  Result<std::shared_ptr<Container>> find(std::string_view id) const;
  void remove(std::string_view id, DoneStatus done);
  // Starts no more containers from now on, breaks off those half-way started, and calls `then` when there is none.
  void close(Loop::Task then);
  // Takes note when the built-in init of a shared PID namespace dies, and says so when nobody asked for it.
  void guard_init();
  // Kills that init, if there is one, and calls `then` when it has been reaped.
  void end_init(Loop::Task then);

  std::vector<std::shared_ptr<Container>> containers() const;
  // `[ContainerState …]` of all that have started.
  void write_states(JsonWriter& json) const;
  // Sends the whole state to `client`, and from now on every event. One that lets more than 64 KiB pile up is
  // dropped; it reconnects and gets the whole state.
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
  bool init_lost_ = false;  // died, and nobody had asked for it
  Loop::Task when_none_starting_;
  Loop::Task when_init_gone_;
  std::map<std::string, std::shared_ptr<Container>, std::less<>> containers_;
  std::vector<std::weak_ptr<Connection>> watchers_;
};

// Taking the whole pod down, in this order: every container is stopped (SIGTERM, SIGKILL after the grace), then
// removed with whatever is left in its cgroup; the shared init gets SIGKILL; namespaces, cgroup and socket go last.
class Shutdown {
 public:
  Shutdown(Context& context, Pod& pod, Server& server) : context_(context), pod_(pod), server_(server) {}
  // SIGTERM to every container, SIGKILL after `grace` (at once when 0), then everything else; answers
  // `client` and stops the loop. What cannot be taken down is answered as an ERROR, and the
  // monitor stays, so that the call can be made again. Calls while one is under way are answered with it.
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
  size_t left_ = 0;  // what the current step still waits for, and the step itself
  Status first_failure_;
};

}  // namespace keelson
