#include "cni/netlink/deadline.h"

#include <time.h>

#include <algorithm>

namespace keelson {

namespace {

int64_t now_ms() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

}  // namespace

Deadline::Deadline(int milliseconds) : at_(now_ms() + milliseconds) {}

int Deadline::left() const { return static_cast<int>(std::max<int64_t>(at_ - now_ms(), 0)); }

}  // namespace keelson
