// Clients attached to a container: what it writes goes to each of them, what they write goes to its stdin.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "monitor/server/connection.h"
#include "monitor/streams/stdio.h"

namespace keelson {

class Container;

// The attached clients' ends of a container's output.
class AttachedClients {
 public:
  void add(std::weak_ptr<Connection> client) { clients_.push_back(std::move(client)); }
  // A client must read in time: no room for output means it is cut off, for it may hold up neither the log nor
  // its neighbours.
  void send(FrameType type, std::string_view bytes);
  // The container's stdin takes bytes again: they go on for as long as it does.
  void resume_input(const InputPipe& input) const;
  // The container has exited.
  void reply(int exit_code) const;

 private:
  std::vector<std::weak_ptr<Connection>> clients_;
};

// Answers STARTED and joins `client` to the container, or fails. A container's stdin that is
// open once (`stdin_once`) ends with the first client that was attached to it.
Status attach(const std::shared_ptr<Connection>& client, std::shared_ptr<Container> container, bool with_input);

}  // namespace keelson
