#include "hamming_scan.h"

#include "function_clones.h"

enum { LANES = 8 };

typedef uint64_t lanes __attribute__((vector_size(LANES * 8), aligned(8)));

SFMEDIR_CLONES("default", "arch=x86-64-v3", "arch=x86-64-v4", "avx512vpopcntdq")
size_t sfmedir_codes_within(const uint64_t *codes, size_t count, uint64_t query, uint32_t radius,
                            uint32_t *positions) {
  size_t found = 0, i = 0;
  for (; i + 2 * LANES <= count; i += 2 * LANES) {
    // Almost every group holds no hit once the radius is small, so one test serves sixteen codes.
    const lanes first = __builtin_elementwise_popcount(*(const lanes *)(codes + i) ^ query);
    const lanes second = __builtin_elementwise_popcount(*(const lanes *)(codes + i + LANES) ^ query);
    if (__builtin_reduce_min(__builtin_elementwise_min(first, second)) > radius) continue;
    for (size_t k = 0; k < LANES; k++)
      if (first[k] <= radius) positions[found++] = (uint32_t)(i + k);
    for (size_t k = 0; k < LANES; k++)
      if (second[k] <= radius) positions[found++] = (uint32_t)(i + LANES + k);
  }
  for (; i < count; i++)
    if ((uint32_t)__builtin_popcountll(codes[i] ^ query) <= radius) positions[found++] = (uint32_t)i;
  return found;
}
