// The pipes of a process's standard streams: its ends and ours.
#pragma once

#include "monitor/setup/process.h"

namespace keelson {

struct StdioPipes {
  Stdio theirs;
  Fd in;  // ours, non-blocking; none without input
  Fd out;
  Fd err;
};

// Without `with_input` the process gets no stream from us: whoever starts it gives it a /dev/null.
Result<StdioPipes> make_stdio_pipes(bool with_input);

}  // namespace keelson
