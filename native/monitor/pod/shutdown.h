// Taking the whole pod down, in this order: every container is stopped (SIGTERM, SIGKILL after the grace), then
// removed with whatever is left in its cgroup; the shared init gets SIGKILL; namespaces, cgroup and socket go last.
#pragma once

#include "monitor/pod/pod.h"
#include "monitor/server/server.h"

namespace keelson {

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
