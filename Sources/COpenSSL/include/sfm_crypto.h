// Thin C surface over OpenSSL 3's EVP for the Swift module Base.
// Every function returns 1 on success and 0 on failure; the caller owns all buffers.
#ifndef SFM_CRYPTO_H
#define SFM_CRYPTO_H

#include <stddef.h>
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

/// Incremental SHA-256. `sfm_sha256_final` also frees the context.
typedef struct sfm_sha256 sfm_sha256;
sfm_sha256 *_Nullable sfm_sha256_new(void);
int sfm_sha256_update(sfm_sha256 *_Nonnull context, const void *_Nullable bytes, size_t count);
int sfm_sha256_final(sfm_sha256 *_Nonnull context, uint8_t *_Nonnull digest32);
void sfm_sha256_free(sfm_sha256 *_Nullable context);

/// Incremental HMAC-SHA256. `sfm_hmac_final` also frees the context.
typedef struct sfm_hmac sfm_hmac;
sfm_hmac *_Nullable sfm_hmac_new(const void *_Nullable key, size_t key_count);
int sfm_hmac_update(sfm_hmac *_Nonnull context, const void *_Nullable bytes, size_t count);
int sfm_hmac_final(sfm_hmac *_Nonnull context, uint8_t *_Nonnull mac32);
void sfm_hmac_free(sfm_hmac *_Nullable context);

/// AES-256-GCM with a 12-byte nonce and a 16-byte tag; `input` and `output` may be the same buffer.
int sfm_aes256gcm_seal(const uint8_t *_Nonnull key32, const uint8_t *_Nonnull nonce12,
                       const void *_Nullable aad, size_t aad_count, const void *_Nullable input, size_t count,
                       void *_Nullable output, uint8_t *_Nonnull tag16);
/// Returns 0 where the tag does not fit; `output` is then zeroed.
int sfm_aes256gcm_open(const uint8_t *_Nonnull key32, const uint8_t *_Nonnull nonce12,
                       const void *_Nullable aad, size_t aad_count, const void *_Nullable input, size_t count,
                       void *_Nullable output, const uint8_t *_Nonnull tag16);
/// AES-256-CTR: XORs the key stream that starts at `counter16` into `output`.
int sfm_aes256ctr(const uint8_t *_Nonnull key32, const uint8_t *_Nonnull counter16,
                  const void *_Nullable input, size_t count, void *_Nullable output);

/// Constant-time comparison; 1 where equal.
int sfm_equal(const void *_Nullable left, const void *_Nullable right, size_t count);
/// Overwrites in a way that the compiler may not remove.
void sfm_zero(void *_Nullable bytes, size_t count);
/// The kernel's random bytes; aborts only where the kernel has none to give.
void sfm_random(void *_Nullable bytes, size_t count);

#if defined(__cplusplus)
}
#endif
#endif
