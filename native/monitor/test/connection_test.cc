// One connection on a socket pair: its limits, and how it ends.
#include "monitor/server/connection.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "monitor/test/unit_test.h"

namespace keelson::test {

namespace {

using namespace std::chrono_literals;

// A connection whose client is this test. The loop runs until the connection is gone.
struct Fixture {
  std::unique_ptr<Loop> loop;
  Fd client;
  std::shared_ptr<Connection> connection;
  std::function<void(std::shared_ptr<Connection>, const Json&)> on_request = [](auto, const Json&) {};
  Loop::Timer limit;

  Fixture() {
    auto made = Loop::create();
    EXPECT(made.has_value());
    loop = std::move(*made);
    int ends[2];
    EXPECT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
    client = Fd(ends[0]);
    connection = std::make_shared<Connection>(
        *loop, Fd(ends[1]), 1,
        [this](std::shared_ptr<Connection> served, const Json& request) { on_request(std::move(served), request); },
        [this](uint64_t) { loop->stop(); });
    EXPECT(connection->open().has_value());
    limit = loop->after(5s, [] { expect_true(false, "the connection ends within 5 s", __FILE__, __LINE__); });
  }

  void send(const std::string& bytes) {
    EXPECT_EQUAL(static_cast<long>(write(client.get(), bytes.data(), bytes.size())), static_cast<long>(bytes.size()));
  }
  void hang_up_sending() { EXPECT(shutdown(client.get(), SHUT_WR) == 0); }
  void run() { EXPECT(loop->run().has_value()); }
  std::string received() {
    std::string all(64 << 10, '\0');
    const ssize_t size = read(client.get(), all.data(), all.size());
    all.resize(static_cast<size_t>(std::max<ssize_t>(size, 0)));
    return all;
  }
};

std::string request(const char* op, bool keep = false) {
  return whole_frame(FrameType::request, std::string(R"({"op": ")") + op + (keep ? "\", \"keep\": true}" : "\"}"));
}

void answers_a_client_that_only_listens() {
  Fixture f;
  std::string op;
  f.on_request = [&op](std::shared_ptr<Connection> client, const Json& json) {
    op = json["op"].string();
    client->reply("{}");
    client->reply("{}");  // ignored after the last frame
  };
  f.send(request("state"));
  f.hang_up_sending();
  f.run();
  EXPECT_EQUAL(op, "state");
  EXPECT_EQUAL(f.received(), whole_frame(FrameType::reply, "{}"));
}

void keeps_a_connection_for_requests_that_ask_for_it() {
  Fixture f;
  int requests = 0;
  f.on_request = [&requests](std::shared_ptr<Connection> client, const Json&) {
    client->reply("{}");
    client->reply("{}");  // ignored without a request
    ++requests;
  };
  f.send(request("state", true) + request("state", true) + request("state") + request("state"));
  f.hang_up_sending();
  f.run();
  EXPECT_EQUAL(requests, 3);
  const std::string reply = whole_frame(FrameType::reply, "{}");
  EXPECT_EQUAL(f.received(), reply + reply + reply);
}

void keeps_no_connection_after_an_error() {
  Fixture f;
  f.on_request = [](std::shared_ptr<Connection> client, const Json&) {
    client->fail_with(Error{Kind::not_found, "find it", {}, 0, {}});
  };
  f.send(request("state", true) + request("state", true));
  f.hang_up_sending();
  f.run();
  const std::string answer = f.received();
  EXPECT(answer.contains("not_found") && answer.find("not_found") == answer.rfind("not_found"));
}

void takes_a_request_first_and_only_once() {
  Fixture f;
  f.send(whole_frame(FrameType::stdin_bytes, "x"));
  f.hang_up_sending();
  f.run();
  EXPECT(f.received().contains("the first frame must be a REQUEST"));
  Fixture g;
  g.send(request("state") + request("state"));
  g.hang_up_sending();
  g.run();
  EXPECT(g.received().contains("a second REQUEST on one connection"));
}

void bounds_what_a_client_has_not_read() {
  Fixture f;
  f.on_request = [](std::shared_ptr<Connection> client, const Json&) {
    while (client->has_room()) client->send(FrameType::stdout_bytes, std::string(max_bytes_payload, 'x'));
    EXPECT(client->pending() <= max_buffered);
    EXPECT(client->pending() + max_bytes_payload > max_buffered);
    client->close();
  };
  f.send(request("exec"));
  f.run();
}

struct Recorder : Call {
  std::string events;
  Connection* connection = nullptr;
  void on_stdin(std::string_view bytes) override {
    events += bytes;
    connection->pause_input(true);
  }
  void on_stdin_close() override { events += '.'; }
  void on_closed() override { events += '!'; }
};

void keeps_frames_back_while_input_is_paused() {
  Fixture f;
  auto call = std::make_shared<Recorder>();
  call->connection = f.connection.get();
  Loop::Timer resume;
  f.on_request = [&](std::shared_ptr<Connection> client, const Json&) {
    client->set_call(call);
    resume = f.loop->after(20ms, [&] {
      EXPECT_EQUAL(call->events, "a");
      f.connection->pause_input(false);
      EXPECT_EQUAL(call->events, "ab");
      f.client.reset();  // detected even while the input is paused
    });
  };
  f.send(request("exec") + whole_frame(FrameType::stdin_bytes, "a") + whole_frame(FrameType::stdin_bytes, "b") +
         whole_frame(FrameType::stdin_close, ""));
  f.run();
  EXPECT_EQUAL(call->events, "ab!");
}

}  // namespace

std::vector<Test> connection_tests() {
  return {
      {"connection: replies to a client that has half-closed", answers_a_client_that_only_listens},
      {"connection: is kept for requests that ask for it", keeps_a_connection_for_requests_that_ask_for_it},
      {"connection: is not kept after an ERROR", keeps_no_connection_after_an_error},
      {"connection: accepts a request first and only once", takes_a_request_first_and_only_once},
      {"connection: bounds what a client has not read", bounds_what_a_client_has_not_read},
      {"connection: keeps frames back while input is paused", keeps_frames_back_while_input_is_paused},
  };
}

}  // namespace keelson::test
