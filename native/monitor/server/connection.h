// One client's connection: one request, the frames of its call, one last frame. With `keep` in the request the
// connection stays open after a REPLY, for the next request.
//
// Output that the client has not read yet is bounded: callers send bytes only while has_room() is true, and on_room()
// tells them when it is true again. Once the last frame (REPLY or ERROR) is queued, the connection flushes and, unless
// it is kept, half-closes and is then closed.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "common/json.h"
#include "monitor/server/loop.h"
#include "monitor/server/protocol.h"

namespace keelson {

// A long-lived call (exec, attach, port_forward): handles the events of its connection.
class Call {
 public:
  virtual ~Call() = default;
  virtual void on_stdin(std::string_view) {}
  virtual void on_stdin_close() {}
  virtual void on_resize(uint16_t /*columns*/, uint16_t /*rows*/) {}
  virtual void on_room() {}
  // The client disconnected before the last frame; nothing more can be sent.
  virtual void on_closed() {}
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using RequestHandler = std::function<void(std::shared_ptr<Connection>, const Json&)>;
  using GoneHandler = std::function<void(uint64_t id)>;

  Connection(Loop& loop, Fd socket, uint64_t id, RequestHandler on_request, GoneHandler on_gone);
  Status open();

  // Ignored outside a call. More than 64 KiB of bytes are split into several frames.
  void send(FrameType type, std::string_view payload);
  bool has_room() const { return pending() + max_bytes_payload <= max_buffered; }
  size_t pending() const { return out_.size() - out_written_; }

  // STARTED: the call's process is running.
  void started(pid_t pid);
  void reply(std::string_view json) { finish(FrameType::reply, json); }
  void fail_with(const Error& error) { finish(FrameType::error, error_json(error)); }
  // Ends the call from outside with an ERROR; the call gets on_closed(), as if the client had disconnected.
  void cut_off(const Error& error);
  // The peer has fully closed its end, even if not all it sent has been read.
  bool peer_is_gone() const;
  bool open_for_frames() const { return phase_ == Phase::request || phase_ == Phase::calling; }
  // Drops the connection without a last frame.
  void close();

  void set_call(std::shared_ptr<Call> call) { call_ = std::move(call); }
  // Holds a stream slot until the last frame has been sent.
  void hold(std::shared_ptr<void> slot) { slot_ = std::move(slot); }
  // Stops or resumes reading frames (used when a process does not read its input fast enough).
  void pause_input(bool paused);
  // The call's process has exited: from now on a client that reads nothing for too long is dropped.
  void expect_progress();

 private:
  enum class Phase { request, calling, flushing, lingering, closed };

  // Before a request only an ERROR may be sent.
  bool may_send(FrameType type) const {
    return phase_ == Phase::calling || (phase_ == Phase::request && type == FrameType::error);
  }
  void on_event(uint32_t events);
  void read_input();
  void take_frames();
  void take_frame(const Frame& frame);
  void take_request(std::string_view payload);
  void finish(FrameType type, std::string_view payload);
  void flush();
  void end_call();
  void await_request();
  void linger();
  void update_interest();

  Loop& loop_;
  Fd socket_;
  uint64_t id_;
  RequestHandler on_request_;
  GoneHandler on_gone_;
  Loop::Watch watch_;
  Loop::Timer deadline_;
  Phase phase_ = Phase::request;
  bool keep_ = false;  // whether to stay open after the REPLY of the current call
  bool paused_ = false;
  bool input_ended_ = false;
  bool must_progress_ = false;
  bool taking_ = false;
  std::string in_;
  std::string out_;
  size_t out_written_ = 0;
  std::shared_ptr<Call> call_;
  std::shared_ptr<void> slot_;
};

}  // namespace keelson
