// The hashes by which the reference CNI plugins name rules and chains; with them each side finds what the other created.
#pragma once

#include <string>
#include <string_view>

namespace keelson {

// The first `digits` hexadecimal digits of SHA-512.
std::string hash_digits(std::string_view text, size_t digits);

}  // namespace keelson
