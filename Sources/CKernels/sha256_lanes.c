#include "sha256_lanes.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>

#define WITH_SHA __attribute__((target("sha,sse4.1,ssse3")))
#define INLINED WITH_SHA __attribute__((always_inline)) static inline

int sha256_lanes_supported(void) {
  unsigned eax, ebx, ecx, edx;
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return 0;
  const int has_sha = ebx >> 29 & 1;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx)) return 0;
  const int has_sse41 = ecx >> 19 & 1;
  const int has_ssse3 = ecx >> 9 & 1;
  return has_sha && has_sse41 && has_ssse3;
}

// FIPS 180-4, 4.2.2.
static const uint32_t constants[64] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

// The words of the state as the instructions want them, and the last sixteen words of the message schedule.
typedef struct {
  __m128i abef;
  __m128i cdgh;
  __m128i words[4];
} lane;

INLINED void load_state(lane *lane, const uint32_t *state) {
  const __m128i badc = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)state), 0xB1);
  const __m128i hgfe = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(state + 4)), 0x1B);
  lane->abef = _mm_alignr_epi8(badc, hgfe, 8);
  lane->cdgh = _mm_blend_epi16(hgfe, badc, 0xF0);
}

INLINED void store_state(const lane *lane, uint32_t *state) {
  const __m128i feba = _mm_shuffle_epi32(lane->abef, 0x1B);
  const __m128i dchg = _mm_shuffle_epi32(lane->cdgh, 0xB1);
  _mm_storeu_si128((__m128i *)state, _mm_blend_epi16(feba, dchg, 0xF0));
  _mm_storeu_si128((__m128i *)(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

// Rounds 4 group ... 4 group + 3. The group is a constant once the loop around it is unrolled.
INLINED void four_rounds(lane *lane, const uint8_t *block, int group) {
  __m128i *const words = lane->words;
  if (group < 4) {
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    words[group] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(block + 16 * group)), big_endian);
  } else {
    const __m128i last = words[(group + 3) & 3];
    const __m128i earlier = _mm_alignr_epi8(last, words[(group + 2) & 3], 4);
    const __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(words[group & 3], words[(group + 1) & 3]), earlier);
    words[group & 3] = _mm_sha256msg2_epu32(sum, last);
  }
  const __m128i added =
      _mm_add_epi32(words[group & 3], _mm_load_si128((const __m128i *)(constants + 4 * group)));
  lane->cdgh = _mm_sha256rnds2_epu32(lane->cdgh, lane->abef, added);
  lane->abef = _mm_sha256rnds2_epu32(lane->abef, lane->cdgh, _mm_shuffle_epi32(added, 0x0E));
}

WITH_SHA void sha256_compress(uint32_t *state, const uint8_t *blocks, size_t block_count) {
  lane only;
  load_state(&only, state);
  for (size_t block = 0; block < block_count; block++, blocks += SHA256_BLOCK_BYTES) {
    const __m128i abef = only.abef, cdgh = only.cdgh;
#pragma clang loop unroll(full)
    for (int group = 0; group < 16; group++) four_rounds(&only, blocks, group);
    only.abef = _mm_add_epi32(only.abef, abef);
    only.cdgh = _mm_add_epi32(only.cdgh, cdgh);
  }
  store_state(&only, state);
}

WITH_SHA void sha256_compress_two(uint32_t *first_state, const uint8_t *first_blocks, uint32_t *second_state,
                                  const uint8_t *second_blocks, size_t block_count) {
  lane first, second;
  load_state(&first, first_state);
  load_state(&second, second_state);
  for (size_t block = 0; block < block_count; block++) {
    const __m128i first_abef = first.abef, first_cdgh = first.cdgh;
    const __m128i second_abef = second.abef, second_cdgh = second.cdgh;
#pragma clang loop unroll(full)
    for (int group = 0; group < 16; group++) {
      four_rounds(&first, first_blocks, group);
      four_rounds(&second, second_blocks, group);
    }
    first.abef = _mm_add_epi32(first.abef, first_abef);
    first.cdgh = _mm_add_epi32(first.cdgh, first_cdgh);
    second.abef = _mm_add_epi32(second.abef, second_abef);
    second.cdgh = _mm_add_epi32(second.cdgh, second_cdgh);
    first_blocks += SHA256_BLOCK_BYTES;
    second_blocks += SHA256_BLOCK_BYTES;
  }
  store_state(&first, first_state);
  store_state(&second, second_state);
}

#else

int sha256_lanes_supported(void) { return 0; }

void sha256_compress(uint32_t *state, const uint8_t *blocks, size_t block_count) {
  (void)state, (void)blocks, (void)block_count;
  __builtin_trap();
}

void sha256_compress_two(uint32_t *first_state, const uint8_t *first_blocks, uint32_t *second_state,
                         const uint8_t *second_blocks, size_t block_count) {
  (void)first_state, (void)first_blocks, (void)second_state, (void)second_blocks, (void)block_count;
  __builtin_trap();
}

#endif
