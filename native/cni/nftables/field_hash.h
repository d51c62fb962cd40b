// The hashes that the field's plugins name their rules and chains by; with them each side finds what the other made.
#pragma once

#include <string>
#include <string_view>

namespace keelson {

// The first `digits` hexadecimal digits of SHA-512.
std::string hash_digits(std::string_view text, size_t digits);

}  // namespace keelson
