// A deadline on the monotonic clock.
#pragma once

#include <cstdint>

namespace keelson {

class Deadline {
 public:
  explicit Deadline(int milliseconds);
  // For poll(2): milliseconds, 0 once it has passed.
  int left() const;

 private:
  int64_t at_;
};

}  // namespace keelson
