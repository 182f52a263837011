// Projection matrices over the field of p = 65537 elements, sixteen 16 x 16 blocks at a time.
//
// Every block has a lane of its own in vectors of sixteen 32-bit integers, so no step shuffles within a block and
// no step branches on a value. Reduction uses 2^16 = -1 (mod p).
#ifndef FIELD65537_H
#define FIELD65537_H

#include <stddef.h>
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

enum {
  FIELD65537_PRIME = 65537,
  /// Blocks computed together.
  FIELD65537_LANES = 16,
  /// m: rows and columns of a block.
  FIELD65537_ORDER = 16,
  /// Bytes of a block of 16-bit words, and of one of its share vectors.
  FIELD65537_BLOCK_BYTES = 512,
  FIELD65537_VECTOR_BYTES = 32,
  FIELD65537_MAXIMUM_RANK = 8,
  /// Words on and above the diagonal of a block.
  FIELD65537_TRIANGLE = 136,
};

/// The state of sixteen blocks. Matrices lie column by column; the innermost index is the lane.
/// To be allocated on a 64-byte boundary, and wiped by the caller: it holds what only r shadows together may know.
typedef struct {
  /// A (split) or B (join), order x rank, elements 0...65536.
  int32_t matrix[FIELD65537_MAXIMUM_RANK * FIELD65537_ORDER][FIELD65537_LANES];
  /// Columns orthogonal to each other that span the same space.
  int32_t orthogonal[FIELD65537_MAXIMUM_RANK * FIELD65537_ORDER][FIELD65537_LANES];
  /// The same, each divided by its own inner square.
  int32_t scaled[FIELD65537_MAXIMUM_RANK * FIELD65537_ORDER][FIELD65537_LANES];
  /// P = A (A^T A)^-1 A^T, row by row, elements 0...65536.
  int32_t projection[FIELD65537_ORDER * FIELD65537_ORDER][FIELD65537_LANES];
} field65537_lanes;

/// Fills `matrix` lane after lane with uniform elements: three bytes, little-endian, masked to 17 bits, are an
/// element where they are below p and are skipped otherwise; rows in order. Stops at `lane_limit` lanes or where
/// `bytes` end. `consumed[lane]` becomes the number of bytes read when that lane was full.
/// Returns the number of full lanes.
size_t field65537_draw(field65537_lanes *_Nonnull lanes, size_t rank, size_t lane_limit,
                       const uint8_t *_Nonnull bytes, size_t byte_count, size_t *_Nonnull consumed);

/// Fills `matrix` with `rank` share vectors of `lane_count` consecutive blocks: vectors[column] points at
/// lane_count * 32 bytes of little-endian words.
void field65537_load(field65537_lanes *_Nonnull lanes, size_t rank, size_t lane_count,
                     const uint8_t *_Nonnull const *_Nonnull vectors);

/// Computes `projection` from `matrix`, which is left unchanged. Returns a bit for each of the first
/// `lane_count` lanes whose A^T A has no inverse; the projection of such a lane is meaningless.
uint32_t field65537_project(field65537_lanes *_Nonnull lanes, size_t rank, size_t lane_count);

/// A bit for each of the first `lane_count` lanes where the trace of the projection differs from `rank`.
uint32_t field65537_wrong_traces(const field65537_lanes *_Nonnull lanes, size_t rank, size_t lane_count);

/// remainder = secret - projection for `lane_count` consecutive blocks of 512 bytes.
/// Returns a bit for each lane with a remainder of 65536, which no 16-bit word holds.
uint32_t field65537_subtract(const field65537_lanes *_Nonnull lanes, size_t lane_count,
                             const uint8_t *_Nonnull secret, uint8_t *_Nonnull remainder);

/// secret = projection + remainder, the inverse; the bits as for `field65537_subtract`.
uint32_t field65537_add(const field65537_lanes *_Nonnull lanes, size_t lane_count,
                        const uint8_t *_Nonnull remainder, uint8_t *_Nonnull secret);

/// The share vectors A (1, x, x^2, ...)^T of `lane_count` blocks, 32 bytes each, for x in 1...255.
/// Returns a bit for each lane with an element of 65536.
uint32_t field65537_share(const field65537_lanes *_Nonnull lanes, size_t rank, size_t lane_count, uint32_t x,
                          uint8_t *_Nonnull vectors);

/// The words on and above the diagonal of one lane's projection, row by row.
void field65537_triangle(const field65537_lanes *_Nonnull lanes, size_t lane, uint32_t *_Nonnull triangle);

/// words[k] = sum over j of coefficients[j] * sources[j][k], all little-endian 16-bit words;
/// count <= 8, word_count >= 16.
/// Returns 1 where a sum is 65536, which no 16-bit word holds.
int field65537_combine(size_t count, const uint32_t *_Nonnull coefficients,
                       const uint8_t *_Nonnull const *_Nonnull sources, size_t word_count,
                       uint8_t *_Nonnull words);

/// The inverse in the field; 0 for 0.
uint32_t field65537_invert(uint32_t value);

/// The textbook form for one block of any order up to 16: P = A (A^T A)^-1 A^T with Gauss-Jordan elimination and
/// row exchange. `matrix` is order x rank and `projection` order x order, both row by row, elements 0...65536.
/// Returns 0 where A^T A has no inverse.
int field65537_project_one(size_t order, size_t rank, const uint32_t *_Nonnull matrix,
                           uint32_t *_Nonnull projection);

#if defined(__cplusplus)
}
#endif
#endif
