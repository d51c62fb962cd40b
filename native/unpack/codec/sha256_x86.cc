// SHA-256's compression in the SHA extensions of x86-64 processors.
#include "unpack/codec/sha256.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>

#include "unpack/codec/sha256_constants.h"

namespace keelson {

namespace {

// Intel SDM, CPUID leaf 7: EBX bit 29 is SHA; leaf 1: ECX bits 9 and 19 are SSSE3 and SSE4.1.
bool processor_has_sha() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return false;
  bool sse = (c & (1u << 9)) && (c & (1u << 19));
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  return sse && (b & (1u << 29));
}

// The instructions keep a to h as two registers, ABEF and CDGH, and do two rounds at a
// time; `w` holds the last 16 words of the message schedule, four to a register.
__attribute__((target("sha,sse4.1,ssse3"))) void compress(uint32_t state[8], const uint8_t* data, size_t blocks) {
  const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
  const __m128i dcba = _mm_loadu_si128(reinterpret_cast<const __m128i*>(state));
  const __m128i hgfe = _mm_loadu_si128(reinterpret_cast<const __m128i*>(state + 4));
  const __m128i cdab = _mm_shuffle_epi32(dcba, 0xb1);
  const __m128i efgh = _mm_shuffle_epi32(hgfe, 0x1b);
  __m128i abef = _mm_alignr_epi8(cdab, efgh, 8);
  __m128i cdgh = _mm_blend_epi16(efgh, cdab, 0xf0);

  for (; blocks > 0; blocks--, data += 64) {
    const __m128i abef_before = abef;
    const __m128i cdgh_before = cdgh;
    __m128i w[4];
#pragma GCC unroll 16
    for (int quad = 0; quad < 16; quad++) {
      __m128i& now = w[quad % 4];
      if (quad < 4) {
        now = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(data) + quad), big_endian);
      } else {
        const __m128i before = w[(quad + 3) % 4];
        const __m128i seven_ago = _mm_alignr_epi8(before, w[(quad + 2) % 4], 4);
        now = _mm_sha256msg1_epu32(now, w[(quad + 1) % 4]);
        now = _mm_sha256msg2_epu32(_mm_add_epi32(now, seven_ago), before);
      }
      const __m128i k = _mm_load_si128(reinterpret_cast<const __m128i*>(sha256_constants) + quad);
      const __m128i wk = _mm_add_epi32(now, k);
      cdgh = _mm_sha256rnds2_epu32(cdgh, abef, wk);
      abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(wk, 0x0e));
    }
    abef = _mm_add_epi32(abef, abef_before);
    cdgh = _mm_add_epi32(cdgh, cdgh_before);
  }

  const __m128i feba = _mm_shuffle_epi32(abef, 0x1b);
  const __m128i dchg = _mm_shuffle_epi32(cdgh, 0xb1);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(state), _mm_blend_epi16(feba, dchg, 0xf0));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

}  // namespace

Sha256Compress sha256_hardware() {
  return processor_has_sha() ? compress : nullptr;
}

}  // namespace keelson

#else

namespace keelson {

Sha256Compress sha256_hardware() {
  return nullptr;
}

}  // namespace keelson

#endif
