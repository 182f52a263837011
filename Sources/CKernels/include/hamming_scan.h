// Linear scan over binary codes by Hamming distance.
#pragma once

#include <stddef.h>
#include <stdint.h>

// Writes the positions of all codes within `radius` bits of `query`, in order, and gives their number.
// `positions` needs room for `count` entries; count < 2^32.
size_t sfmedir_codes_within(const uint64_t *codes, size_t count, uint64_t query, uint32_t radius,
                            uint32_t *positions);
