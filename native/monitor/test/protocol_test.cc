#include "monitor/server/protocol.h"

#include "common/json.h"
#include "monitor/test/unit_test.h"

namespace keelson::test {

namespace {

std::string frame(uint8_t type, std::string_view payload, uint8_t version = 1) {
  auto header = frame_header(static_cast<FrameType>(type), payload.size());
  header[1] = static_cast<char>(version);
  return std::string(header.data(), header.size()) + std::string(payload);
}

bool refuses(std::string_view input) {
  size_t size = 0;
  auto read = read_frame(input, size);
  return !read && read.error().kind == Kind::protocol;
}

void reads_frame_by_frame() {
  std::string input = frame(1, "{}") + frame(2, "bytes") + frame(3, "") + frame(4, std::string("\x50\0\x18\0", 4));
  const std::pair<FrameType, std::string_view> wanted[] = {{FrameType::request, "{}"},
                                                           {FrameType::stdin_bytes, "bytes"},
                                                           {FrameType::stdin_close, ""},
                                                           {FrameType::resize, std::string_view("\x50\0\x18\0", 4)}};
  std::string_view rest = input;
  for (const auto& [type, payload] : wanted) {
    size_t size = 0;
    auto read = read_frame(rest, size);
    EXPECT(read.has_value());
    EXPECT(read->type == type);
    EXPECT_EQUAL(read->payload, payload);
    rest.remove_prefix(size);
  }
  EXPECT(rest.empty());
}

void waits_for_the_rest() {
  std::string whole = frame(1, "{\"op\":\"state\"}");
  for (size_t length = 0; length < whole.size(); ++length) {
    size_t size = 1;
    EXPECT(read_frame(std::string_view(whole).substr(0, length), size).has_value());
    EXPECT_EQUAL(static_cast<long>(size), 0);
  }
}

void refuses_at_the_header() {
  EXPECT(refuses(frame(1, "{}", 2)));
  EXPECT(refuses(frame(1, "{}", 0)));
  EXPECT(refuses(frame(0, "")));
  EXPECT(refuses(frame(5, "")));
  EXPECT(refuses(frame(0x81, "{}")));  // only the monitor sends replies
  EXPECT(refuses(frame(3, "x")));
  EXPECT(refuses(frame(4, "abc")));
  std::string reserved = frame(1, "{}");
  reserved[2] = 1;
  EXPECT(refuses(reserved));
  // Frames that are too long are refused before their payload arrives.
  EXPECT(refuses(frame(1, std::string((1 << 20) + 1, ' ')).substr(0, frame_header_size)));
  EXPECT(refuses(frame(2, std::string((64 << 10) + 1, ' ')).substr(0, frame_header_size)));
  EXPECT(refuses(std::string("\x02\x01\0\0\xff\xff\xff\xff", 8)));
}

void takes_the_largest() {
  size_t size = 0;
  std::string json = frame(1, std::string(1 << 20, ' '));
  EXPECT(read_frame(json, size).has_value());
  EXPECT_EQUAL(static_cast<long>(size), (1 << 20) + 8);
  std::string bytes = frame(2, std::string(64 << 10, 'x'));
  EXPECT(read_frame(bytes, size).has_value());
  EXPECT_EQUAL(static_cast<long>(size), (64 << 10) + 8);
}

void says_what_failed() {
  Error error{Kind::not_executable, "execute /bin/nope", "container abc", ENOENT, {}};
  auto json = parse_json(error_json(error));
  EXPECT(json.has_value());
  EXPECT_EQUAL((*json)["kind"].string(), "not_executable");
  EXPECT_EQUAL((*json)["errno"].integer(), ENOENT);
  EXPECT_EQUAL((*json)["message"].string(), "container abc: execute /bin/nope: No such file or directory");
}

}  // namespace

std::vector<Test> protocol_tests() {
  return {
      {"protocol: reads frame by frame", reads_frame_by_frame},
      {"protocol: waits for the rest", waits_for_the_rest},
      {"protocol: refuses invalid frames at the header", refuses_at_the_header},
      {"protocol: accepts the largest frame", takes_the_largest},
      {"protocol: an error says what failed", says_what_failed},
  };
}

}  // namespace keelson::test
