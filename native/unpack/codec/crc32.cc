// CRC-32 by eight tables, and by carry-less multiplication on x86-64.
#include "unpack/codec/crc32.h"

#include <array>

#include "unpack/codec/bytes.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace keelson {

namespace {

// Polynomials over GF(2) are kept with the highest power in the lowest bit, as the CRC is.
constexpr uint32_t times_x(uint32_t polynomial) {
  return (polynomial >> 1) ^ ((polynomial & 1) ? 0xedb88320u : 0);
}

// tables[k][b]: the CRC's change by byte b with k more bytes behind it.
using Tables = std::array<std::array<uint32_t, 256>, 8>;

constexpr Tables make_tables() {
  Tables tables{};
  for (uint32_t byte = 0; byte < 256; byte++) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; bit++) crc = times_x(crc);
    tables[0][byte] = crc;
  }
  for (size_t k = 1; k < 8; k++) {
    for (size_t byte = 0; byte < 256; byte++) {
      uint32_t crc = tables[k - 1][byte];
      tables[k][byte] = (crc >> 8) ^ tables[0][crc & 0xff];
    }
  }
  return tables;
}

constexpr Tables tables = make_tables();

// Works on the inverted CRC, as the loops want it.
uint32_t by_tables(uint32_t crc, const uint8_t* data, size_t size) {
  for (; size >= 8; size -= 8, data += 8) {
    uint64_t word = load<uint64_t>(data) ^ crc;
    crc = 0;
    for (size_t i = 0; i < 8; i++) crc ^= tables[7 - i][(word >> (8 * i)) & 0xff];
  }
  for (; size > 0; size--, data++) crc = (crc >> 8) ^ tables[0][(crc ^ *data) & 0xff];
  return crc;
}

#if defined(__x86_64__)

// x^power mod P, shifted into the place where a carry-less product of two bit-reversed
// polynomials (one bit short of full width) comes out aligned.
constexpr int64_t fold_constant(int power) {
  uint32_t polynomial = 0x80000000;  // x^0
  for (int i = 0; i < power; i++) polynomial = times_x(polynomial);
  return static_cast<int64_t>(static_cast<uint64_t>(polynomial) << 1);
}

// Moves a 128-bit remainder `distance` bits further along the message.
template <int distance>
__attribute__((target("pclmul,sse4.1"), always_inline)) inline __m128i fold(__m128i remainder, __m128i next) {
  const __m128i by = _mm_set_epi64x(fold_constant(distance - 32), fold_constant(distance + 32));
  const __m128i low = _mm_clmulepi64_si128(remainder, by, 0x00);
  const __m128i high = _mm_clmulepi64_si128(remainder, by, 0x11);
  return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

// Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ": four
// remainders side by side, folded into one, whose own CRC the tables tell. `size` is at least 64.
__attribute__((target("pclmul,sse4.1"))) uint32_t by_folding(uint32_t crc, const uint8_t* data, size_t size) {
  auto chunk = [](const uint8_t* at) __attribute__((target("pclmul,sse4.1"))) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
  };
  __m128i a = _mm_xor_si128(chunk(data), _mm_cvtsi32_si128(static_cast<int>(crc)));
  __m128i b = chunk(data + 16);
  __m128i c = chunk(data + 32);
  __m128i d = chunk(data + 48);
  for (data += 64, size -= 64; size >= 64; data += 64, size -= 64) {
    a = fold<512>(a, chunk(data));
    b = fold<512>(b, chunk(data + 16));
    c = fold<512>(c, chunk(data + 32));
    d = fold<512>(d, chunk(data + 48));
  }
  a = fold<128>(fold<128>(fold<128>(a, b), c), d);
  for (; size >= 16; data += 16, size -= 16) a = fold<128>(a, chunk(data));

  uint8_t remainder[16];
  _mm_storeu_si128(reinterpret_cast<__m128i*>(remainder), a);
  return by_tables(by_tables(0, remainder, sizeof remainder), data, size);
}

#endif

}  // namespace

uint32_t crc32_portable(uint32_t crc, std::span<const uint8_t> bytes) {
  return ~by_tables(~crc, bytes.data(), bytes.size());
}

uint32_t crc32(uint32_t crc, std::span<const uint8_t> bytes) {
#if defined(__x86_64__)
  bool folding = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
  if (folding && bytes.size() >= 64) return ~by_folding(~crc, bytes.data(), bytes.size());
#endif
  return crc32_portable(crc, bytes);
}

}  // namespace keelson
