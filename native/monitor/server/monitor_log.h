// The monitor's own log: lines on stderr, which is the pod's monitor.log. Also the timestamps of logs and exit records.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/error.h"

namespace keelson {

// Redirects stderr to the file at `path`, appending.
Status open_monitor_log(const char* path);
// Logs one line with a timestamp. The file is truncated when it reaches 64 KiB.
void warn(std::string_view sentence);

// Nanoseconds since the epoch.
int64_t now_ns();
// RFC 3339 with nine fractional digits, in UTC: "2026-11-21T01:10:12.123456789Z".
std::string rfc3339_utc(int64_t ns);

}  // namespace keelson
