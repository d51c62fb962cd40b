// Requests as values: what a client wrote is checked here, once.
#pragma once

#include "monitor/streams/exec_session.h"
#include "monitor/pod/pod.h"

namespace keelson {

struct StartCall {
  StartRequest request;
  std::optional<OciBinary> binary;
};

// An id becomes a file's name: 1 to 128 of letters, digits, '_', '.', '-', no '.' at its start.
Result<std::string> parse_id(const Json& request);
Result<StartCall> parse_start(const Json& request);
Result<ExecCall> parse_exec(const Json& request);
// 1 to 64.
Result<int> parse_signal(const Json& request);
// Milliseconds from 0 to a year; missing is 0.
Result<std::chrono::milliseconds> parse_limit(const Json& request, std::string_view name);
// 0 to 65535; missing is 0.
Result<uint16_t> parse_short(const Json& request, std::string_view name);

}  // namespace keelson
