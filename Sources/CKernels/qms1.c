// The chaos layer of QMS1, eight blocks at a time: lane b of every vector belongs to block b of the group.
//
// Helpers take pointers to vectors instead of vectors: a 64-byte vector as an argument would have a different
// calling convention in each build, and everything is inlined anyway.
#include "qms1.h"

#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "QMS1 reads its blocks as little-endian words"
#endif

typedef uint64_t word8 __attribute__((vector_size(64)));
typedef int64_t signed8 __attribute__((vector_size(64)));

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("clang loop unroll(full)")

enum {
  GROUP = 8,
  BLOCK_WORDS = 8,
  MAX_BLOCKS = SFM_QMS1_SEGMENT_BYTES / SFM_QMS1_BLOCK_BYTES,
  BURN_IN_STEPS = 64,
};

// ---------------------------------------------------------------------------------------------- the two maps

typedef struct {
  word8 x[2], y[2], z[2], w[2];
} quantum_map;

typedef struct {
  word8 x[2], r[2], w[2];
} hybrid_map;

// The 128-bit product of unsigned words out of four 32 x 32 products, which every vector unit has.
INLINE void multiply(const word8 *a, const word8 *b, word8 *high, word8 *low) {
  const word8 half = (word8){} + 0xFFFFFFFF;
  word8 a_low = *a & half, a_high = *a >> 32, b_low = *b & half, b_high = *b >> 32;
  word8 bottom = a_low * b_low;
  word8 middle = a_high * b_low + (bottom >> 32);
  word8 cross = a_low * b_high + (middle & half);
  *high = a_high * b_high + (middle >> 32) + (cross >> 32);
  *low = (cross << 32) | (bottom & half);
}

INLINE void multiply_high(const word8 *a, const word8 *b, word8 *high) {
  word8 low;
  multiply(a, b, high, &low);
}

// r = 4 - 2^-7 and e^-beta = 2^-9: every coefficient of the map is a shift.
INLINE void quantum_step(quantum_map *map) {
  UNROLL for (int half = 0; half < 2; half++) {
    word8 x = map->x[half], y = map->y[half], z = map->z[half], complement = ~x;
    word8 x_complement, complement_y, x_z, complement_z, x_y;
    multiply_high(&x, &complement, &x_complement);
    multiply_high(&complement, &y, &complement_y);
    multiply_high(&x, &z, &x_z);
    multiply_high(&complement, &z, &complement_z);
    multiply_high(&x, &y, &x_y);
    word8 w = map->w[half] + 0x9E3779B97F4A7C15;
    word8 d = x_complement - y;
    word8 q = complement_y + x_z;
    word8 v = (complement_z >> 1) + (x_y >> 1) + (x >> 2);
    map->w[half] = w;
    map->x[half] = (d << 2) - (d >> 7) + (w >> 20);
    map->y[half] = (q >> 6) - (q >> 15) - (y >> 18);
    map->z[half] = (v >> 5) - (v >> 14) - (z >> 18);
  }
}

INLINE void hybrid_step(hybrid_map *map) {
  UNROLL for (int half = 0; half < 2; half++) {
    word8 x = map->x[half], complement = ~x, r = map->r[half], four_minus_r = -r;
    // The smaller of x and its complement is the one whose top bit is clear.
    word8 nearest = x ^ (word8)((signed8)x >> 63);
    word8 parabola, high, low;
    multiply_high(&x, &complement, &parabola);
    multiply(&r, &parabola, &high, &low);
    word8 logistic = (high << 2) | (low >> 62);
    multiply(&four_minus_r, &nearest, &high, &low);
    word8 tent = (high << 1) | (low >> 63);
    word8 w = map->w[half] + 0xD1342543DE82EF95;
    map->w[half] = w;
    map->x[half] = logistic + tent + (w >> 20);
  }
}

INLINE void combine(const word8 *x, word8 *words) { *words = x[0] ^ ((x[1] << 32) | (x[1] >> 32)); }

INLINE void quantum_words(quantum_map *map, word8 *words) { quantum_step(map), combine(map->x, words); }
INLINE void hybrid_words(hybrid_map *map, word8 *words) { hybrid_step(map), combine(map->x, words); }

INLINE uint64_t big_endian(const uint8_t *bytes) {
  uint64_t word;
  memcpy(&word, bytes, sizeof word);
  return __builtin_bswap64(word);
}

INLINE void start_maps(quantum_map *quantum, hybrid_map *hybrid, const uint8_t *seeds) {
  for (int lane = 0; lane < SFM_QMS1_LANES; lane++) {
    const uint8_t *seed = seeds + 32 * lane;
    quantum->x[lane >> 3][lane & 7] = big_endian(seed);
    quantum->y[lane >> 3][lane & 7] = big_endian(seed + 8) >> 13;
    quantum->z[lane >> 3][lane & 7] = big_endian(seed + 16) >> 7;
    quantum->w[lane >> 3][lane & 7] = big_endian(seed + 24);
    seed = seeds + SFM_QMS1_QUANTUM_SEED_BYTES + 24 * lane;
    hybrid->x[lane >> 3][lane & 7] = big_endian(seed);
    hybrid->r[lane >> 3][lane & 7] = 0xE000000000000000 + (big_endian(seed + 8) >> 4);
    hybrid->w[lane >> 3][lane & 7] = big_endian(seed + 16);
  }
  for (int step = 0; step < BURN_IN_STEPS; step++) {
    quantum_step(quantum);
    hybrid_step(hybrid);
  }
}

// ------------------------------------------------------------------------------------------ block scramble

// Fisher-Yates; the 32-bit draws are the words' halves, low half first, and what is left over is dropped.
INLINE void draw_permutation(quantum_map *quantum, uint16_t *permutation, size_t blocks) {
  for (size_t index = 0; index < blocks; index++) permutation[index] = (uint16_t)index;
  uint32_t draws[2 * SFM_QMS1_WORDS];
  size_t used = 2 * SFM_QMS1_WORDS;
  for (size_t index = blocks - 1; index >= 1; index--) {
    if (used == 2 * SFM_QMS1_WORDS) {
      word8 words;
      quantum_words(quantum, &words);
      memcpy(draws, &words, sizeof draws);
      used = 0;
    }
    size_t other = (size_t)(((uint64_t)draws[used++] * (index + 1)) >> 32);
    uint16_t kept = permutation[index];
    permutation[index] = permutation[other];
    permutation[other] = kept;
  }
}

// ---------------------------------------------------------------------------------------------- bit planes

// Rows become columns: before it a vector is a block (or its key words), after it lane b belongs to block b.
INLINE void transpose_words(word8 *rows) {
  word8 next[8];
  UNROLL for (int i = 0; i < 8; i += 2) {
    next[i] = __builtin_shufflevector(rows[i], rows[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
    next[i + 1] = __builtin_shufflevector(rows[i], rows[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
  }
  UNROLL for (int i = 0; i < 8; i++) {
    if (i & 2) continue;
    rows[i] = __builtin_shufflevector(next[i], next[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
    rows[i + 2] = __builtin_shufflevector(next[i], next[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
  }
  UNROLL for (int i = 0; i < 4; i++) {
    next[i] = __builtin_shufflevector(rows[i], rows[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    next[i + 4] = __builtin_shufflevector(rows[i], rows[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
  UNROLL for (int i = 0; i < 8; i++) rows[i] = next[i];
}

// Exchanges the bits of `a` chosen by `mask << shift` with the bits of `b` chosen by `mask`.
INLINE void exchange_bits(word8 *a, word8 *b, int shift, uint64_t mask) {
  word8 difference = ((*a >> shift) ^ *b) & mask;
  *b ^= difference;
  *a ^= difference << shift;
}

// Register index and byte index change places (an 8 x 8 matrix of bytes in every lane).
INLINE void transpose_bytes(word8 *v) {
  UNROLL for (int i = 0; i < 4; i++) exchange_bits(&v[i], &v[i + 4], 32, 0x00000000FFFFFFFF);
  UNROLL for (int i = 0; i < 8; i++) if (!(i & 2)) exchange_bits(&v[i], &v[i + 2], 16, 0x0000FFFF0000FFFF);
  UNROLL for (int i = 0; i < 8; i += 2) exchange_bits(&v[i], &v[i + 1], 8, 0x00FF00FF00FF00FF);
}

// Register index and bit index within the byte change places.
INLINE void transpose_bits(word8 *v) {
  UNROLL for (int i = 0; i < 4; i++) exchange_bits(&v[i], &v[i + 4], 4, 0x0F0F0F0F0F0F0F0F);
  UNROLL for (int i = 0; i < 8; i++) if (!(i & 2)) exchange_bits(&v[i], &v[i + 2], 2, 0x3333333333333333);
  UNROLL for (int i = 0; i < 8; i += 2) exchange_bits(&v[i], &v[i + 1], 1, 0x5555555555555555);
}

// (word, byte, bit) -> (byte, word, bit) -> (bit, word, byte): register p is then plane p of every block.
INLINE void words_to_planes(word8 *v) { transpose_bytes(v), transpose_bits(v); }
INLINE void planes_to_words(word8 *v) { transpose_bits(v), transpose_bytes(v); }

// --------------------------------------------------------------------------------------------------- gates

static const uint8_t swap_gates[16][2] = {{0, 4}, {1, 5}, {2, 6}, {3, 7}, {0, 2}, {1, 3}, {4, 6}, {5, 7},
                                          {0, 1}, {2, 3}, {4, 5}, {6, 7}, {1, 4}, {3, 6}, {0, 7}, {2, 5}};

// Copies one bit of every lane into all bits of the lane.
INLINE void select_bit(const word8 *selector, int bit, word8 *mask) {
  *mask = (word8)((signed8)(*selector << (63 - bit)) >> 63);
}

INLINE void swap_gate(word8 *planes, const word8 *control, int gate) {
  word8 *a = &planes[swap_gates[gate][0]], *b = &planes[swap_gates[gate][1]];
  word8 chosen;
  select_bit(control, 48 + gate, &chosen);
  word8 difference = (*a ^ *b) & chosen;
  *a ^= difference;
  *b ^= difference;
}

INLINE void apply_gates(word8 *planes, const word8 *g) {
  UNROLL for (int gate = 0; gate < 16; gate++) swap_gate(planes, g, gate);
  UNROLL for (int p = 0; p < 8; p++) {
    word8 left = (g[0] >> (6 * p)) & 63;
    planes[p] = (planes[p] << left) | (planes[p] >> (-left & 63));
  }
  UNROLL for (int p = 0; p < 8; p++) planes[(p + 1) & 7] ^= planes[p] & g[1 + p];
  UNROLL for (int p = 0; p < 7; p++) planes[(p + 3) & 7] ^= planes[p] & planes[(p + 1) & 7] & g[9 + p];
}

INLINE void undo_gates(word8 *planes, const word8 *g) {
  UNROLL for (int p = 6; p >= 0; p--) planes[(p + 3) & 7] ^= planes[p] & planes[(p + 1) & 7] & g[9 + p];
  UNROLL for (int p = 7; p >= 0; p--) planes[(p + 1) & 7] ^= planes[p] & g[1 + p];
  UNROLL for (int p = 0; p < 8; p++) {
    word8 right = (g[0] >> (6 * p)) & 63;
    planes[p] = (planes[p] >> right) | (planes[p] << (-right & 63));
  }
  UNROLL for (int gate = 15; gate >= 0; gate--) swap_gate(planes, g, gate);
}

// ------------------------------------------------------------------------------------------- DNA confusion

#define LOW_BITS 0x5555555555555555

// A DNA rule is v -> swap^s(v) xor c on pairs of bits; bit `first` of the selector is s, the next two are c.
INLINE void rule_constant(const word8 *selector, int first, word8 *constant) {
  word8 low, high;
  select_bit(selector, first + 1, &low);
  select_bit(selector, first + 2, &high);
  *constant = (low & LOW_BITS) | (high & ~(uint64_t)LOW_BITS);
}

INLINE void rule_swap(word8 *v, const word8 *selector, int first) {
  word8 chosen;
  select_bit(selector, first, &chosen);
  word8 difference = ((*v >> 1) ^ *v) & LOW_BITS & chosen;
  *v ^= difference | (difference << 1);
}

// One block as eight words. Encrypting reads with rule e and writes with rule d; decrypting the other way round,
// with addition and subtraction exchanged.
INLINE void dna(word8 *block, const word8 *key, uint64_t selectors, int decrypting) {
  const word8 positions = {0, 8, 16, 24, 32, 40, 48, 56};
  word8 selector = ((word8){} + selectors) >> positions;
  int reading = decrypting ? 3 : 0, writing = decrypting ? 0 : 3;
  word8 constant, odd, logical, a = *block;
  rule_swap(&a, &selector, reading);
  rule_constant(&selector, reading, &constant);
  a ^= constant;
  select_bit(&selector, 6, &odd);
  select_bit(&selector, 7, &logical);
  word8 borrowing = decrypting ? ~odd : odd;
  word8 carry = (((a ^ borrowing) & *key & LOW_BITS) << 1) & ~logical;
  a ^= *key ^ carry ^ (odd & logical);
  rule_constant(&selector, writing, &constant);
  a ^= constant;
  rule_swap(&a, &selector, writing);
  *block = a;
}

// ------------------------------------------------------------------------------------------------- segment

INLINE void wipe(void *bytes, size_t count) {
  memset(bytes, 0, count);
  // The compiler must believe that somebody reads the zeroes.
  __asm__ volatile("" : : "r"(bytes) : "memory");
}

typedef struct {
  quantum_map quantum;
  hybrid_map hybrid;
  uint16_t permutation[MAX_BLOCKS];
  _Alignas(64) uint8_t copy[SFM_QMS1_SEGMENT_BYTES];
} workspace;

// The last group of a segment may lack blocks: it works on zero blocks in their place and drops them. Drawing
// more words than there are blocks is harmless, since nothing is drawn from a segment's maps afterwards.
INLINE void segment(const uint8_t *seeds, uint8_t *bytes, size_t blocks, int decrypting) {
  workspace work;
  start_maps(&work.quantum, &work.hybrid, seeds);
  draw_permutation(&work.quantum, work.permutation, blocks);
  memcpy(work.copy, bytes, blocks * SFM_QMS1_BLOCK_BYTES);
  quantum_map quantum = work.quantum;
  hybrid_map hybrid = work.hybrid;
  for (size_t first = 0; first < blocks; first += GROUP) {
    size_t present = blocks - first < GROUP ? blocks - first : GROUP;
    word8 data[GROUP] = {}, gates[16], keys[GROUP], selectors;
    hybrid_words(&hybrid, &selectors);
    for (int b = 0; b < GROUP; b++) {
      quantum_words(&quantum, &gates[b]);
      quantum_words(&quantum, &gates[8 + b]);
      hybrid_words(&hybrid, &keys[b]);
    }
    transpose_words(gates);
    transpose_words(gates + 8);
    for (size_t b = 0; b < present; b++) {
      size_t from = decrypting ? first + b : work.permutation[first + b];
      memcpy(&data[b], work.copy + from * SFM_QMS1_BLOCK_BYTES, SFM_QMS1_BLOCK_BYTES);
    }
    if (decrypting)
      UNROLL for (int b = 0; b < GROUP; b++) dna(&data[b], &keys[b], selectors[b], 1);
    transpose_words(data);
    words_to_planes(data);
    if (decrypting) undo_gates(data, gates);
    else apply_gates(data, gates);
    planes_to_words(data);
    transpose_words(data);
    if (!decrypting)
      UNROLL for (int b = 0; b < GROUP; b++) dna(&data[b], &keys[b], selectors[b], 0);
    for (size_t b = 0; b < present; b++) {
      size_t to = decrypting ? work.permutation[first + b] : first + b;
      memcpy(bytes + to * SFM_QMS1_BLOCK_BYTES, &data[b], SFM_QMS1_BLOCK_BYTES);
    }
  }
  wipe(&work, sizeof work);
}

typedef void segment_function(const uint8_t *seeds, uint8_t *bytes, size_t blocks);

#define BUILD(name, attributes)                                                           \
  attributes static void encrypt_##name(const uint8_t *seeds, uint8_t *bytes, size_t n) { \
    segment(seeds, bytes, n, 0);                                                          \
  }                                                                                       \
  attributes static void decrypt_##name(const uint8_t *seeds, uint8_t *bytes, size_t n) { \
    segment(seeds, bytes, n, 1);                                                          \
  }

BUILD(everywhere, )
#if defined(__x86_64__)
BUILD(avx2, __attribute__((target("arch=x86-64-v3"))))
BUILD(avx512, __attribute__((target("arch=x86-64-v4"), min_vector_width(512))))
static segment_function *const encrypt_builds[] = {encrypt_everywhere, encrypt_avx2, encrypt_avx512};
static segment_function *const decrypt_builds[] = {decrypt_everywhere, decrypt_avx2, decrypt_avx512};
#else
static segment_function *const encrypt_builds[] = {encrypt_everywhere};
static segment_function *const decrypt_builds[] = {decrypt_everywhere};
#endif

int sfm_qms1_builds(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v3")) return __builtin_cpu_supports("x86-64-v4") ? 3 : 2;
#endif
  return 1;
}

INLINE void check(size_t blocks, int build) {
  if (blocks < 1 || blocks > MAX_BLOCKS || build < 0 || build >= sfm_qms1_builds()) __builtin_trap();
}

void sfm_qms1_encrypt_segment(const uint8_t *seeds, uint8_t *bytes, size_t blocks, int build) {
  check(blocks, build);
  encrypt_builds[build](seeds, bytes, blocks);
}

void sfm_qms1_decrypt_segment(const uint8_t *seeds, uint8_t *bytes, size_t blocks, int build) {
  check(blocks, build);
  decrypt_builds[build](seeds, bytes, blocks);
}

// -------------------------------------------------------------------------------------- the maps by themselves

void sfm_qms1_quantum_advance(uint64_t *x, uint64_t *y, uint64_t *z, uint64_t *w, size_t steps) {
  quantum_map map;
  memcpy(map.x, x, sizeof map.x);
  memcpy(map.y, y, sizeof map.y);
  memcpy(map.z, z, sizeof map.z);
  memcpy(map.w, w, sizeof map.w);
  for (size_t step = 0; step < steps; step++) quantum_step(&map);
  memcpy(x, map.x, sizeof map.x);
  memcpy(y, map.y, sizeof map.y);
  memcpy(z, map.z, sizeof map.z);
  memcpy(w, map.w, sizeof map.w);
}

void sfm_qms1_hybrid_advance(uint64_t *x, const uint64_t *r, uint64_t *w, size_t steps) {
  hybrid_map map;
  memcpy(map.x, x, sizeof map.x);
  memcpy(map.r, r, sizeof map.r);
  memcpy(map.w, w, sizeof map.w);
  for (size_t step = 0; step < steps; step++) hybrid_step(&map);
  memcpy(x, map.x, sizeof map.x);
  memcpy(w, map.w, sizeof map.w);
}

void sfm_qms1_first_words(const uint8_t *seeds, uint64_t *quantum, uint64_t *hybrid) {
  quantum_map quantum_state;
  hybrid_map hybrid_state;
  word8 words;
  start_maps(&quantum_state, &hybrid_state, seeds);
  quantum_words(&quantum_state, &words);
  memcpy(quantum, &words, sizeof words);
  hybrid_words(&hybrid_state, &words);
  memcpy(hybrid, &words, sizeof words);
}
