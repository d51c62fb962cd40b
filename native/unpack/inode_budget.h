// How many inodes a layer may make, and how many it made.
#pragma once

#include <cstdint>
#include <string>

#include "common/error.h"

namespace keelson {

class InodeBudget {
 public:
  explicit InodeBudget(uint64_t most) : most_(most) {}

  // Before each file, directory, link, device … is made. What a later entry replaces stays counted.
  Status take() {
    if (used_ == most_) {
      return fail(Kind::limit, "unpack the layer", "it has more than " + std::to_string(most_) + " inodes");
    }
    ++used_;
    return {};
  }
  uint64_t used() const { return used_; }

 private:
  uint64_t most_;
  uint64_t used_ = 0;
};

}  // namespace keelson
