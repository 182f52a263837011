// The compression function of SHA-256 (FIPS 180-4) for one or two independent messages, by the processor's SHA instructions.
//
// Two of these instructions wait for each other within one message; those of a second message fill the gaps, so that two
// messages take little longer than one. Nothing branches on the data.
#ifndef SHA256_LANES_H
#define SHA256_LANES_H

#include <stddef.h>
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

enum { SHA256_BLOCK_BYTES = 64 };

/// 1 where the processor has the instructions; without them nothing else here may be called.
int sha256_lanes_supported(void);

/// Takes `block_count` blocks of 64 bytes into a state of eight words.
void sha256_compress(uint32_t *_Nonnull state, const uint8_t *_Nonnull blocks, size_t block_count);

/// The same for two messages of one length at once; the states are different ones.
void sha256_compress_two(uint32_t *_Nonnull first_state, const uint8_t *_Nonnull first_blocks,
                         uint32_t *_Nonnull second_state, const uint8_t *_Nonnull second_blocks, size_t block_count);

#if defined(__cplusplus)
}
#endif
#endif
