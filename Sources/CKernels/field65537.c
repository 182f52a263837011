#include "field65537.h"

#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the words of a block are loaded as they lie: a little-endian machine is assumed"
#endif

#if defined(__x86_64__)
#define CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define CLONES
#endif
#define INLINE static inline __attribute__((always_inline))

enum {
  PRIME = FIELD65537_PRIME,
  LANES = FIELD65537_LANES,
  ORDER = FIELD65537_ORDER,
  MAXIMUM_RANK = FIELD65537_MAXIMUM_RANK,
  HALF = PRIME / 2,
};

typedef int32_t vec __attribute__((vector_size(64)));
typedef uint32_t uvec __attribute__((vector_size(64)));
typedef uint16_t words __attribute__((vector_size(32)));

// Three forms of an element occur. Canonical: 0...65536. Centred: -32768...32768, so that a product of two stays
// within 2^30 and needs no wider integer. Loose: anything congruent, small enough for the next step.

// Congruent to x, since 2^16 = -1: loose, within 65535 + |x| / 2^16 of zero and never below -|x| / 2^16 - 1.
#define FOLD(x) (((x) & 0xFFFF) - ((x) >> 16))

// From a loose -32768...98305 to centred.
#define CENTRE(x) ((x) - (((x) > HALF) & PRIME))

// From a loose -65537...131073 to canonical: as unsigned numbers, the wrong choice is always the larger one.
#define CANONICAL(x)                                                      \
  ({                                                                      \
    uvec loose_ = (uvec)(x);                                              \
    loose_ = __builtin_elementwise_min(loose_, loose_ + (uint32_t)PRIME); \
    (vec) __builtin_elementwise_min(loose_, loose_ - (uint32_t)PRIME);    \
  })

// Centred times centred, centred again.
#define MULTIPLY(a, b)            \
  ({                              \
    vec product_ = (a) * (b);     \
    vec folded_ = FOLD(product_); \
    CENTRE(folded_);              \
  })

// A sum of products is kept as the sum modulo 2^32 and the sum of the upper halves: the sum of the lower halves
// follows from both, because it is below 2^32 for fewer than 2^16 terms. One reduction then serves them all.
#define ACCUMULATE(low, high, a, b) \
  do {                              \
    vec product_ = (a) * (b);       \
    (low) += (uvec)product_;        \
    (high) += product_ >> 16;       \
  } while (0)

// Loose, within terms * 2^17 of zero.
#define COLLECT(low, high) ((vec)((low) - ((uvec)(high) << 16)) - (high))

INLINE void transpose(vec *rows) {
  vec pairs[16], quads[16];
  for (int k = 0; k < 16; k += 2) {
    vec a = rows[k], b = rows[k + 1];
    pairs[k] = __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
    pairs[k + 1] = __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  }
  for (int k = 0; k < 16; k += 4) {
    for (int h = 0; h < 2; h++) {
      vec a = pairs[k + h], b = pairs[k + 2 + h];
      quads[k + 2 * h] = __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
      quads[k + 2 * h + 1] =
          __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    }
  }
  for (int c = 0; c < 4; c++) {
    vec a = quads[c], b = quads[4 + c], d = quads[8 + c], e = quads[12 + c];
    vec front = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
    vec back = __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    vec front2 = __builtin_shufflevector(d, e, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
    vec back2 = __builtin_shufflevector(d, e, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    rows[c] = __builtin_shufflevector(front, front2, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
    rows[4 + c] = __builtin_shufflevector(front, front2, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    rows[8 + c] = __builtin_shufflevector(back, back2, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
    rows[12 + c] = __builtin_shufflevector(back, back2, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  }
}

INLINE uint32_t bits(const vec *flags, size_t lane_count) {
  uint32_t mask = 0;
  for (size_t lane = 0; lane < lane_count; lane++) mask |= (uint32_t)((*flags)[lane] != 0) << lane;
  return mask;
}

size_t field65537_draw(field65537_lanes *lanes, size_t rank, size_t lane_limit, const uint8_t *bytes,
                       size_t byte_count, size_t *consumed) {
  size_t element_count = rank * ORDER;
  uint16_t slots[MAXIMUM_RANK * ORDER];
  for (size_t n = 0; n < element_count; n++) slots[n] = (uint16_t)((n % rank * ORDER + n / rank) * LANES);
  // Four bytes are read for each three, so the last candidate needs one byte more than it has.
  size_t last = byte_count < 4 ? 0 : byte_count - 3;
  size_t at = 0;
  for (size_t lane = 0; lane < lane_limit; lane++) {
    int32_t *base = &lanes->matrix[0][lane];
    size_t n = 0;
    // About half of all candidates are refused, at random: a branch on it would be guessed wrong half the time.
    while (n < element_count && at < last) {
      uint32_t candidate;
      memcpy(&candidate, bytes + at, 4);
      candidate &= 0x1FFFF;
      base[slots[n]] = (int32_t)candidate;
      n += candidate < PRIME;
      at += 3;
    }
    if (n < element_count) return lane;
    consumed[lane] = at;
  }
  return lane_limit;
}

CLONES void field65537_load(field65537_lanes *lanes, size_t rank, size_t lane_count, const uint8_t *const *vectors) {
  for (size_t column = 0; column < rank; column++) {
    vec rows[LANES];
    for (size_t lane = 0; lane < LANES; lane++) {
      words loaded = {0};
      if (lane < lane_count) memcpy(&loaded, vectors[column] + lane * sizeof loaded, sizeof loaded);
      rows[lane] = __builtin_convertvector(loaded, vec);
    }
    transpose(rows);
    memcpy(lanes->matrix[column * ORDER], rows, sizeof rows);
  }
}

// x^(p - 2), p - 2 = 2^16 - 1: each step doubles the run of ones in the exponent.
#define INVERT(x)                                                                \
  ({                                                                             \
    vec power_ = (x);                                                            \
    for (int run_ = 1; run_ < 16; run_ *= 2) {                                   \
      vec shifted_ = power_;                                                     \
      for (int k_ = 0; k_ < run_; k_++) shifted_ = MULTIPLY(shifted_, shifted_); \
      power_ = MULTIPLY(shifted_, power_);                                       \
    }                                                                            \
    power_;                                                                      \
  })

// Gram and Schmidt's orthogonal columns u of the matrix, without roots: then P = sum of u u^T / (u . u), with no
// r x r inverse to compute. A lane where some u . u is zero is marked: its leading minors are not all invertible,
// although A^T A may still be.
INLINE void orthogonalise(field65537_lanes *lanes, const size_t rank, vec *isotropic) {
  const vec *matrix = (const vec *)lanes->matrix;
  vec *orthogonal = (vec *)lanes->orthogonal, *scaled = (vec *)lanes->scaled;
  vec marked = {0};
  for (size_t column = 0; column < rank; column++) {
    const vec *a = matrix + column * ORDER;
    vec *u = orthogonal + column * ORDER;
    for (size_t row = 0; row < ORDER; row++) u[row] = CENTRE(a[row]);
    vec factors[MAXIMUM_RANK];
    for (size_t earlier = 0; earlier < column; earlier++) {
      uvec low = {0};
      vec high = {0};
      for (size_t row = 0; row < ORDER; row++) ACCUMULATE(low, high, u[row], scaled[earlier * ORDER + row]);
      vec dot = COLLECT(low, high);
      dot = FOLD(dot);
      factors[earlier] = -CENTRE(dot);
    }
    uvec low_square = {0};
    vec high_square = {0};
    for (size_t row = 0; row < ORDER; row++) {
      uvec low = {0};
      vec high = {0};
      for (size_t earlier = 0; earlier < column; earlier++) {
        ACCUMULATE(low, high, factors[earlier], orthogonal[earlier * ORDER + row]);
      }
      vec value = COLLECT(low, high) + u[row];
      value = FOLD(value);
      value = CENTRE(value);
      u[row] = value;
      ACCUMULATE(low_square, high_square, value, value);
    }
    vec square = COLLECT(low_square, high_square);
    square = FOLD(square);
    square = CENTRE(square);
    marked |= square == 0;
    vec inverse = INVERT(square);
    for (size_t row = 0; row < ORDER; row++) scaled[column * ORDER + row] = MULTIPLY(u[row], inverse);
  }
  *isotropic = marked;
}

INLINE void project(field65537_lanes *lanes, const size_t rank, vec *isotropic) {
  orthogonalise(lanes, rank, isotropic);
  const vec *orthogonal = (const vec *)lanes->orthogonal, *scaled = (const vec *)lanes->scaled;
  vec *projection = (vec *)lanes->projection;
  for (size_t row = 0; row < ORDER; row++) {
    vec left[MAXIMUM_RANK];
    for (size_t k = 0; k < rank; k++) left[k] = scaled[k * ORDER + row];
    for (size_t column = row; column < ORDER; column++) {
      uvec low = {0};
      vec high = {0};
      for (size_t k = 0; k < rank; k++) ACCUMULATE(low, high, left[k], orthogonal[k * ORDER + column]);
      vec value = COLLECT(low, high);
      value = FOLD(value);
      value = CANONICAL(value);
      projection[row * ORDER + column] = value;
      projection[column * ORDER + row] = value;
    }
  }
}

// The rank is a constant in each case, so that the compiler unrolls the innermost loops.
CLONES static uint32_t project_lanes(field65537_lanes *lanes, size_t rank, size_t lane_count) {
  vec isotropic = {0};
  switch (rank) {
    case 2: project(lanes, 2, &isotropic); break;
    case 3: project(lanes, 3, &isotropic); break;
    case 4: project(lanes, 4, &isotropic); break;
    case 5: project(lanes, 5, &isotropic); break;
    case 6: project(lanes, 6, &isotropic); break;
    case 7: project(lanes, 7, &isotropic); break;
    case 8: project(lanes, 8, &isotropic); break;
    default: __builtin_trap();
  }
  return bits(&isotropic, lane_count);
}

uint32_t field65537_project(field65537_lanes *lanes, size_t rank, size_t lane_count) {
  uint32_t isotropic = project_lanes(lanes, rank, lane_count);
  uint32_t singular = 0;
  // About rank blocks in 65537 come here.
  for (size_t lane = 0; isotropic >> lane; lane++) {
    if (!(isotropic >> lane & 1)) continue;
    uint32_t matrix[ORDER * MAXIMUM_RANK], projection[ORDER * ORDER];
    for (size_t row = 0; row < ORDER; row++) {
      for (size_t k = 0; k < rank; k++) matrix[row * rank + k] = (uint32_t)lanes->matrix[k * ORDER + row][lane];
    }
    if (!field65537_project_one(ORDER, rank, matrix, projection)) {
      singular |= 1u << lane;
      continue;
    }
    for (size_t n = 0; n < ORDER * ORDER; n++) lanes->projection[n][lane] = (int32_t)projection[n];
  }
  return singular;
}

CLONES uint32_t field65537_wrong_traces(const field65537_lanes *lanes, size_t rank, size_t lane_count) {
  const vec *projection = (const vec *)lanes->projection;
  vec trace = {0};
  for (size_t row = 0; row < ORDER; row++) trace += projection[row * (ORDER + 1)];
  trace = FOLD(trace);
  trace = CANONICAL(trace);
  vec wrong = trace != (int32_t)rank;
  return bits(&wrong, lane_count);
}

// output = input + sign * projection, word by word.
INLINE uint32_t shift_blocks(const field65537_lanes *lanes, size_t lane_count, const uint8_t *input,
                             uint8_t *output, const int sign) {
  const vec *projection = (const vec *)lanes->projection;
  vec seen[LANES];
  memset(seen, 0, sizeof seen);
  for (size_t row = 0; row < ORDER; row++) {
    vec rows[LANES];
    memcpy(rows, projection + row * ORDER, sizeof rows);
    transpose(rows);
    for (size_t lane = 0; lane < lane_count; lane++) {
      size_t offset = lane * FIELD65537_BLOCK_BYTES + row * sizeof(words);
      words loaded;
      memcpy(&loaded, input + offset, sizeof loaded);
      vec value = __builtin_convertvector(loaded, vec);
      value = sign < 0 ? value - rows[lane] : value + rows[lane];
      value = CANONICAL(value);
      seen[lane] |= value;
      words stored = __builtin_convertvector(value, words);
      memcpy(output + offset, &stored, sizeof stored);
    }
  }
  uint32_t mask = 0;
  for (size_t lane = 0; lane < lane_count; lane++) {
    uint32_t any = 0;
    for (size_t n = 0; n < ORDER; n++) any |= (uint32_t)seen[lane][n];
    mask |= (any >> 16 & 1) << lane;
  }
  return mask;
}

CLONES uint32_t field65537_subtract(const field65537_lanes *lanes, size_t lane_count, const uint8_t *secret,
                                    uint8_t *remainder) {
  return shift_blocks(lanes, lane_count, secret, remainder, -1);
}

CLONES uint32_t field65537_add(const field65537_lanes *lanes, size_t lane_count, const uint8_t *remainder,
                               uint8_t *secret) {
  return shift_blocks(lanes, lane_count, remainder, secret, 1);
}

CLONES uint32_t field65537_share(const field65537_lanes *lanes, size_t rank, size_t lane_count, uint32_t x,
                                 uint8_t *vectors) {
  const vec *matrix = (const vec *)lanes->matrix;
  vec rows[ORDER];
  vec seen = {0};
  for (size_t row = 0; row < ORDER; row++) {
    // Horner's rule; x <= 255 keeps every step far below 2^31.
    vec value = matrix[(rank - 1) * ORDER + row];
    for (size_t column = rank - 1; column-- > 0;) {
      value = value * (int32_t)x + matrix[column * ORDER + row];
      value = FOLD(value);
    }
    value = CANONICAL(value);
    seen |= value;
    rows[row] = value;
  }
  transpose(rows);
  for (size_t lane = 0; lane < lane_count; lane++) {
    words stored = __builtin_convertvector(rows[lane], words);
    memcpy(vectors + lane * sizeof stored, &stored, sizeof stored);
  }
  seen >>= 16;
  return bits(&seen, lane_count);
}

void field65537_triangle(const field65537_lanes *lanes, size_t lane, uint32_t *triangle) {
  for (size_t row = 0; row < ORDER; row++) {
    for (size_t column = row; column < ORDER; column++) {
      *triangle++ = (uint32_t)lanes->projection[row * ORDER + column][lane];
    }
  }
}

CLONES int field65537_combine(size_t count, const uint32_t *coefficients, const uint8_t *const *sources,
                              size_t word_count, uint8_t *output) {
  int32_t centred[MAXIMUM_RANK];
  for (size_t j = 0; j < count; j++) centred[j] = (int32_t)coefficients[j] - (coefficients[j] > HALF ? PRIME : 0);
  vec seen = {0};
  size_t at = 0;
  // The last vector may overlap the one before: the result is the same.
  while (at < word_count) {
    if (at > word_count - LANES) at = word_count - LANES;
    uvec low = {0};
    vec high = {0};
    for (size_t j = 0; j < count; j++) {
      words loaded;
      memcpy(&loaded, sources[j] + 2 * at, sizeof loaded);
      vec value = __builtin_convertvector(loaded, vec);
      value = CENTRE(value);
      ACCUMULATE(low, high, value, centred[j]);
    }
    vec value = COLLECT(low, high);
    value = FOLD(value);
    value = CANONICAL(value);
    seen |= value;
    words stored = __builtin_convertvector(value, words);
    memcpy(output + 2 * at, &stored, sizeof stored);
    at += LANES;
  }
  seen >>= 16;
  return bits(&seen, LANES) != 0;
}
