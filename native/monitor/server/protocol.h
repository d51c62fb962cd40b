// Frames of the monitor's protocol, version 1 (PROTOCOL.md, "Frames").
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/error.h"

namespace keelson {

enum class FrameType : uint8_t {
  request = 0x01,
  stdin_bytes = 0x02,
  stdin_close = 0x03,
  resize = 0x04,
  reply = 0x81,
  error = 0x82,
  stdout_bytes = 0x83,
  stderr_bytes = 0x84,
  event = 0x85,
  started = 0x86,
};

constexpr uint8_t protocol_version = 1;
constexpr size_t frame_header_size = 8;
constexpr size_t max_json_payload = 1 << 20;
constexpr size_t max_bytes_payload = 64 << 10;
// How much is buffered for a connection in one direction.
constexpr size_t max_buffered = 256 << 10;

struct Frame {
  FrameType type = FrameType::request;
  std::string_view payload;
};

std::array<char, frame_header_size> frame_header(FrameType type, size_t payload_size);
// Header and payload in one string.
std::string whole_frame(FrameType type, std::string_view payload);

// Reads the frame at the start of `input`, sent to the monitor. Sets `size` to its total length, or to 0 if more bytes
// are needed. Fails with kind `protocol` for an invalid frame, as soon as its header is complete.
Result<Frame> read_frame(std::string_view input, size_t& size);

}  // namespace keelson
