// Hot loops of the image cipher QMS1: its two chaotic maps and the chaos layer of one segment.
// Formats and exact step order: docs/formats/qms1.md. Integers only, so every machine gives the same bytes.
#ifndef SFM_QMS1_H
#define SFM_QMS1_H

#include <stddef.h>
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

enum {
  SFM_QMS1_BLOCK_BYTES = 64,
  SFM_QMS1_SEGMENT_BYTES = 65536,
  SFM_QMS1_QUANTUM_SEED_BYTES = 512,
  SFM_QMS1_HYBRID_SEED_BYTES = 384,
  SFM_QMS1_SEED_BYTES = 896,
  SFM_QMS1_LANES = 16,
  SFM_QMS1_WORDS = 8,
};

/// How many builds of the segment functions this processor can run, at least 1.
/// Build 0 runs everywhere; a higher number uses wider vectors. All give the same bytes.
int sfm_qms1_builds(void);

/// Applies the chaos layer to `blocks` (1 to 1024) blocks in place, with the segment's 896 seed bytes.
/// `build` is below `sfm_qms1_builds()`.
void sfm_qms1_encrypt_segment(const uint8_t *_Nonnull seeds, uint8_t *_Nonnull segment, size_t blocks, int build);
/// The inverse.
void sfm_qms1_decrypt_segment(const uint8_t *_Nonnull seeds, uint8_t *_Nonnull segment, size_t blocks, int build);

/// Advances 16 lanes of the three-dimensional quantum logistic map `steps` times; each array holds one
/// coordinate of every lane (x, y, minus z, Weyl counter) as unsigned fractions of 2^64.
void sfm_qms1_quantum_advance(uint64_t *_Nonnull x, uint64_t *_Nonnull y, uint64_t *_Nonnull z, uint64_t *_Nonnull w,
                              size_t steps);
/// The same for the hybrid logistic-tent map (x, the parameter R as Q2.62, Weyl counter).
void sfm_qms1_hybrid_advance(uint64_t *_Nonnull x, const uint64_t *_Nonnull r, uint64_t *_Nonnull w, size_t steps);
/// The first eight words of both generators after their burn-in, as the segment functions see them.
void sfm_qms1_first_words(const uint8_t *_Nonnull seeds, uint64_t *_Nonnull quantum, uint64_t *_Nonnull hybrid);

#if defined(__cplusplus)
}
#endif
#endif
