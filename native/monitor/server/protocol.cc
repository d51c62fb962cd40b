#include "monitor/server/protocol.h"

namespace keelson {

namespace {

uint8_t byte_at(std::string_view input, size_t at) { return static_cast<uint8_t>(input[at]); }

std::unexpected<Error> bad_frame(std::string detail) { return fail(Kind::protocol, "read a frame", std::move(detail)); }

Status check_size(FrameType type, size_t size) {
  switch (type) {
    case FrameType::request:
      if (size <= max_json_payload) return {};
      return bad_frame("a request of " + std::to_string(size) + " bytes is larger than 1 MiB");
    case FrameType::stdin_bytes:
      if (size <= max_bytes_payload) return {};
      return bad_frame("a frame of " + std::to_string(size) + " bytes is larger than 64 KiB");
    case FrameType::stdin_close:
      if (size == 0) return {};
      return bad_frame("STDIN_CLOSE must not have a payload");
    case FrameType::resize:
      if (size == 4) return {};
      return bad_frame("the payload of RESIZE must be 4 bytes");
    default:
      return bad_frame("type " + std::to_string(static_cast<int>(type)) + " is not one that clients send");
  }
}

}  // namespace

std::array<char, frame_header_size> frame_header(FrameType type, size_t payload_size) {
  std::array<char, frame_header_size> header{};
  header[0] = static_cast<char>(type);
  header[1] = static_cast<char>(protocol_version);
  for (size_t i = 0; i < 4; ++i) header[4 + i] = static_cast<char>((payload_size >> (8 * i)) & 0xff);
  return header;
}

std::string whole_frame(FrameType type, std::string_view payload) {
  const auto header = frame_header(type, payload.size());
  return std::string(header.data(), header.size()).append(payload);
}

Result<Frame> read_frame(std::string_view input, size_t& size) {
  size = 0;
  if (input.size() < frame_header_size) return Frame{};
  if (byte_at(input, 1) != protocol_version) {
    return bad_frame("version " + std::to_string(byte_at(input, 1)) +
                     " is not supported; this monitor supports version 1");
  }
  if (input[2] != 0 || input[3] != 0) return bad_frame("the reserved bytes of the header are not zero");
  auto type = static_cast<FrameType>(byte_at(input, 0));
  size_t payload = 0;
  for (size_t i = 0; i < 4; ++i) payload |= static_cast<size_t>(byte_at(input, 4 + i)) << (8 * i);
  TRY(check_size(type, payload));
  if (input.size() - frame_header_size < payload) return Frame{};
  size = frame_header_size + payload;
  return Frame{type, input.substr(frame_header_size, payload)};
}

}  // namespace keelson
