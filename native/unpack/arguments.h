// The command line of keelson-unpack.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "common/error.h"

namespace keelson {

struct Arguments {
  enum class Action { unpack, help, version };
  Action action = Action::unpack;
  std::string directory;  // existing, empty
  std::string blob;       // empty for none
  uint64_t max_bytes = 0;
  uint64_t max_inodes = 0;
};

extern const char* const usage_text;

// Fails with kind `invalid` for anything unknown, missing or not a number.
Result<Arguments> parse_arguments(std::span<char* const> words);

}  // namespace keelson
