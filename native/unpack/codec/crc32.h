// CRC-32 as gzip uses it (RFC 1952, section 8), fed in pieces.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace keelson {

// The CRC of some bytes followed by `bytes`, where `crc` is that of the former (0 for none).
uint32_t crc32(uint32_t crc, std::span<const uint8_t> bytes);

// The same from tables alone, for processors without carry-less multiplication.
uint32_t crc32_portable(uint32_t crc, std::span<const uint8_t> bytes);

}  // namespace keelson
