#include "sfm_crypto.h"

#include <errno.h>
#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <sys/random.h>

struct sfm_sha256 {
  EVP_MD_CTX *context;
};

// Fetched once: an EVP fetch costs more than hashing a short message.
static EVP_MD *sha256_method(void) {
  static EVP_MD *method;
  EVP_MD *found = __atomic_load_n(&method, __ATOMIC_ACQUIRE);
  if (found) return found;
  found = EVP_MD_fetch(NULL, "SHA256", NULL);
  EVP_MD *expected = NULL;
  if (found && !__atomic_compare_exchange_n(&method, &expected, found, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
    EVP_MD_free(found);
    found = expected;
  }
  return found;
}

static EVP_CIPHER *cipher_method(EVP_CIPHER **slot, const char *name) {
  EVP_CIPHER *found = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
  if (found) return found;
  found = EVP_CIPHER_fetch(NULL, name, NULL);
  EVP_CIPHER *expected = NULL;
  if (found && !__atomic_compare_exchange_n(slot, &expected, found, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
    EVP_CIPHER_free(found);
    found = expected;
  }
  return found;
}

sfm_sha256 *sfm_sha256_new(void) {
  sfm_sha256 *self = malloc(sizeof *self);
  if (!self) return NULL;
  self->context = EVP_MD_CTX_new();
  if (!self->context || !sha256_method() || EVP_DigestInit_ex2(self->context, sha256_method(), NULL) != 1) {
    sfm_sha256_free(self);
    return NULL;
  }
  return self;
}

int sfm_sha256_update(sfm_sha256 *self, const void *bytes, size_t count) {
  return count == 0 || EVP_DigestUpdate(self->context, bytes, count) == 1;
}

int sfm_sha256_final(sfm_sha256 *self, uint8_t *digest32) {
  int ok = EVP_DigestFinal_ex(self->context, digest32, NULL) == 1;
  sfm_sha256_free(self);
  return ok;
}

void sfm_sha256_free(sfm_sha256 *self) {
  if (!self) return;
  EVP_MD_CTX_free(self->context);
  free(self);
}

struct sfm_hmac {
  EVP_MAC_CTX *context;
};

sfm_hmac *sfm_hmac_new(const void *key, size_t key_count) {
  sfm_hmac *self = malloc(sizeof *self);
  if (!self) return NULL;
  self->context = NULL;
  EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
  if (mac) {
    self->context = EVP_MAC_CTX_new(mac);
    EVP_MAC_free(mac);
  }
  char name[] = "SHA256";
  OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name, 0), OSSL_PARAM_END};
  // A NULL key would mean "keep the old one": an empty key needs a pointer of its own.
  static const uint8_t empty_key;
  if (!self->context || EVP_MAC_init(self->context, key_count ? key : &empty_key, key_count, parameters) != 1) {
    sfm_hmac_free(self);
    return NULL;
  }
  return self;
}

int sfm_hmac_update(sfm_hmac *self, const void *bytes, size_t count) {
  return count == 0 || EVP_MAC_update(self->context, bytes, count) == 1;
}

int sfm_hmac_final(sfm_hmac *self, uint8_t *mac32) {
  size_t written = 0;
  int ok = EVP_MAC_final(self->context, mac32, &written, 32) == 1 && written == 32;
  sfm_hmac_free(self);
  return ok;
}

void sfm_hmac_free(sfm_hmac *self) {
  if (!self) return;
  EVP_MAC_CTX_free(self->context);
  free(self);
}

static EVP_CIPHER *gcm_slot;
static EVP_CIPHER *ctr_slot;

// EVP counts in int: bytes beyond INT_MAX go through in pieces.
static int update_all(EVP_CIPHER_CTX *context, uint8_t *output, const uint8_t *input, size_t count) {
  while (count > 0) {
    int piece = count > (1u << 30) ? (1 << 30) : (int)count;
    int written = 0;
    if (EVP_CipherUpdate(context, output, &written, input, piece) != 1) return 0;
    input += piece;
    if (output) output += piece;
    count -= (size_t)piece;
  }
  return 1;
}

static EVP_CIPHER_CTX *gcm_start(const uint8_t *key32, const uint8_t *nonce12, const void *aad, size_t aad_count,
                                 int encrypting) {
  EVP_CIPHER *method = cipher_method(&gcm_slot, "AES-256-GCM");
  EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
  if (!context || !method) goto failed;
  if (EVP_CipherInit_ex2(context, method, key32, nonce12, encrypting, NULL) != 1) goto failed;
  if (aad_count && !update_all(context, NULL, aad, aad_count)) goto failed;
  return context;
failed:
  EVP_CIPHER_CTX_free(context);
  return NULL;
}

int sfm_aes256gcm_seal(const uint8_t *key32, const uint8_t *nonce12, const void *aad, size_t aad_count,
                       const void *input, size_t count, void *output, uint8_t *tag16) {
  EVP_CIPHER_CTX *context = gcm_start(key32, nonce12, aad, aad_count, 1);
  if (!context) return 0;
  uint8_t rest[16];
  int written = 0;
  int ok = update_all(context, output, input, count) && EVP_CipherFinal_ex(context, rest, &written) == 1 &&
           EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, 16, tag16) == 1;
  EVP_CIPHER_CTX_free(context);
  return ok;
}

int sfm_aes256gcm_open(const uint8_t *key32, const uint8_t *nonce12, const void *aad, size_t aad_count,
                       const void *input, size_t count, void *output, const uint8_t *tag16) {
  EVP_CIPHER_CTX *context = gcm_start(key32, nonce12, aad, aad_count, 0);
  if (!context) return 0;
  uint8_t rest[16];
  int written = 0;
  int ok = update_all(context, output, input, count) &&
           EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, 16, (void *)tag16) == 1 &&
           EVP_CipherFinal_ex(context, rest, &written) == 1;
  EVP_CIPHER_CTX_free(context);
  // Unauthenticated plain text never leaves this function.
  if (!ok && count) OPENSSL_cleanse(output, count);
  return ok;
}

int sfm_aes256ctr(const uint8_t *key32, const uint8_t *counter16, const void *input, size_t count, void *output) {
  EVP_CIPHER *method = cipher_method(&ctr_slot, "AES-256-CTR");
  EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
  int ok = context && method && EVP_CipherInit_ex2(context, method, key32, counter16, 1, NULL) == 1 &&
           update_all(context, output, input, count);
  EVP_CIPHER_CTX_free(context);
  return ok;
}

int sfm_equal(const void *left, const void *right, size_t count) {
  return count == 0 || CRYPTO_memcmp(left, right, count) == 0;
}

void sfm_zero(void *bytes, size_t count) {
  if (count) OPENSSL_cleanse(bytes, count);
}

void sfm_random(void *bytes, size_t count) {
  uint8_t *next = bytes;
  while (count > 0) {
    ssize_t got = getrandom(next, count > 256 ? 256 : count, 0);
    if (got < 0) {
      if (errno == EINTR) continue;
      abort();
    }
    next += got;
    count -= (size_t)got;
  }
}
