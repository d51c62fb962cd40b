// The listening socket: who may connect, and how many at once.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "connection.h"

namespace keelson {

class Server {
 public:
  static constexpr size_t max_connections = 128;
  // Refused connections that may still be reading why.
  static constexpr size_t max_refused = 32;

  Server(Loop& loop, Scratch& scratch) : loop_(loop), scratch_(scratch) {}
  // Makes `directory`/monitor.sock (mode 0600), replacing what a dead monitor left.
  Status listen(const std::string& directory, Connection::RequestHandler on_request);
  // Removes the socket: nobody new can connect, connections live on.
  void stop_listening();

 private:
  void on_connect();
  void admit(Fd socket);
  void refuse(Fd socket);

  Loop& loop_;
  Scratch& scratch_;
  Connection::RequestHandler on_request_;
  std::string directory_;
  Fd listener_;
  Loop::Watch watch_;
  Loop::Timer pause_;
  uint64_t next_id_ = 1;
  std::map<uint64_t, std::shared_ptr<Connection>> connections_;
  struct Refused {
    Fd socket;
    Loop::Timer end;
  };
  std::map<uint64_t, Refused> refused_;
};

}  // namespace keelson
