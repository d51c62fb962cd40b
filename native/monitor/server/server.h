// The listening socket: who may connect, and how many at once.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "monitor/server/connection.h"

namespace keelson {

// A socket that listens at `directory`/`name`, mode 0600, in place of what is there. `directory` may be deeper than a
// socket's address is long.
Result<Fd> listen_at(const Fd& directory, const std::string& name, int backlog);

class Server {
 public:
  // Streams (exec, attach, port_forward), which live as long as their clients like, and what is kept besides for
  // calls that end by themselves: however many streams there are, a pod can be looked at, stopped, and taken down.
  static constexpr long max_streams = 128;
  // Of them, those that `brief` execs alone may have: sessions and forwarded ports, however many, do not fail a probe.
  static constexpr long kept_for_brief = 16;
  static constexpr size_t max_connections = 192;
  // Those that are over, and refused ones, may still be reading why. When there are so many, new ones wait to be
  // accepted.
  static constexpr size_t max_over = 64;
  static constexpr size_t max_refused = 32;
  // Those that wait; one more is told by connect(2) itself (EAGAIN).
  static constexpr int max_waiting = 1024;

  explicit Server(Loop& loop) : loop_(loop) {}
  // Makes `directory`/monitor.sock (mode 0600), replacing what a dead monitor left.
  Status listen(const std::string& directory, Connection::RequestHandler on_request);
  // Removes the socket: nobody new can connect, connections live on.
  void stop_listening();

 private:
  void on_connect();
  void admit(Fd socket);
  void refuse(Fd socket);
  void forget_refused(uint64_t id);
  bool is_full() const;
  void accept_or_wait();

  Loop& loop_;
  Connection::RequestHandler on_request_;
  std::string directory_;
  Fd listener_;
  Loop::Watch watch_;
  Loop::Timer pause_;
  uint64_t next_id_ = 1;
  std::map<uint64_t, std::shared_ptr<Connection>> connections_;
  struct Refused {
    Fd socket;
    Loop::Watch watch;
    Loop::Timer end;
  };
  std::map<uint64_t, Refused> refused_;
};

}  // namespace keelson
