// Wall-clock times as the records and logs want them.
#pragma once

#include <cstdint>
#include <string>

namespace keelson {

// Nanoseconds since the epoch.
int64_t now_ns();

// RFC 3339 with nine fractional digits, in UTC: "2026-11-21T01:10:12.123456789Z".
std::string rfc3339_utc(int64_t ns);

}  // namespace keelson
