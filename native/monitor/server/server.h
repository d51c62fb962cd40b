// The listening socket: who may connect, and how many connections there may be.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "monitor/server/connection.h"

namespace keelson {

// A socket listening at `directory`/`name`, mode 0600, replacing any existing file. The path of `directory` may be
// longer than a socket address.
Result<Fd> listen_at(const Fd& directory, const std::string& name, int backlog);

class Server {
 public:
  // Streams (exec, attach, port_forward) last as long as their clients want. The other connections are reserved for
  // calls that end by themselves: however many streams are open, a pod can be inspected, stopped and removed.
  static constexpr long max_streams = 128;
  // Streams reserved for `brief` execs: sessions and forwarded ports, however many, must not make a probe fail.
  static constexpr long kept_for_brief = 16;
  static constexpr size_t max_connections = 192;
  // Finished and refused connections, whose clients may still be reading the last frame. While there are `max_connections`
  // plus `max_over` connections, or `max_refused` refused ones, new ones wait to be accepted.
  static constexpr size_t max_over = 64;
  static constexpr size_t max_refused = 32;
  // Length of the accept queue; beyond it connect(2) itself fails with EAGAIN.
  static constexpr int max_waiting = 1024;

  explicit Server(Loop& loop) : loop_(loop) {}
  // Creates `directory`/monitor.sock (mode 0600), replacing the socket of a dead monitor.
  Status listen(const std::string& directory, Connection::RequestHandler on_request);
  // Removes the socket: no new connections, existing ones stay open.
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
