#include "sfm_tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sfm_tls_context {
  SSL_CTX *context;
};

struct sfm_tls {
  SSL *ssl;
  int server;
};

static void explain(char *text, size_t capacity, const char *fallback) {
  unsigned long code = ERR_peek_last_error();
  if (code == 0) {
    snprintf(text, capacity, "%s", fallback);
  } else {
    const char *reason = ERR_reason_error_string(code);
    snprintf(text, capacity, "%s", reason ? reason : fallback);
  }
  ERR_clear_error();
}

static int use_certificate_chain(SSL_CTX *context, const char *pem) {
  BIO *bio = BIO_new_mem_buf(pem, -1);
  if (!bio) return 0;
  X509 *leaf = PEM_read_bio_X509(bio, NULL, NULL, NULL);
  int ok = leaf && SSL_CTX_use_certificate(context, leaf) == 1;
  X509_free(leaf);
  X509 *next;
  while (ok && (next = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
    // The context takes the certificate over on success.
    if (SSL_CTX_add0_chain_cert(context, next) != 1) {
      X509_free(next);
      ok = 0;
    }
  }
  BIO_free(bio);
  ERR_clear_error();
  return ok;
}

static int use_key(SSL_CTX *context, const char *pem) {
  BIO *bio = BIO_new_mem_buf(pem, -1);
  if (!bio) return 0;
  EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
  int ok = key && SSL_CTX_use_PrivateKey(context, key) == 1 && SSL_CTX_check_private_key(context) == 1;
  EVP_PKEY_free(key);
  BIO_free(bio);
  return ok;
}

static int trust(SSL_CTX *context, const char *pem, int server) {
  BIO *bio = BIO_new_mem_buf(pem, -1);
  if (!bio) return 0;
  X509_STORE *store = SSL_CTX_get_cert_store(context);
  int count = 0;
  X509 *authority;
  while ((authority = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
    if (X509_STORE_add_cert(store, authority) == 1) count++;
    if (server) SSL_CTX_add_client_CA(context, authority);
    X509_free(authority);
  }
  BIO_free(bio);
  ERR_clear_error();
  return count > 0;
}

sfm_tls_context *sfm_tls_context_new(int server, const char *certificate_pem, const char *key_pem,
                                     const char *authority_pem, int verify, char *error, size_t error_capacity) {
  ERR_clear_error();
  sfm_tls_context *self = calloc(1, sizeof *self);
  SSL_CTX *context = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
  if (!self || !context) {
    snprintf(error, error_capacity, "out of memory");
    goto failed;
  }
  self->context = context;
  if (!SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) ||
      !SSL_CTX_set_ciphersuites(context, "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256")) {
    explain(error, error_capacity, "TLS 1.3 is not available");
    goto failed;
  }
  if (certificate_pem && !use_certificate_chain(context, certificate_pem)) {
    explain(error, error_capacity, "the certificate cannot be read");
    goto failed;
  }
  if (key_pem && !use_key(context, key_pem)) {
    explain(error, error_capacity, "the private key cannot be read or does not fit the certificate");
    goto failed;
  }
  if (!trust(context, authority_pem, server)) {
    explain(error, error_capacity, "the certificate authority's certificate cannot be read");
    goto failed;
  }
  int mode = SSL_VERIFY_PEER;
  if (server && verify == SFM_TLS_VERIFY_REQUIRED) mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
  SSL_CTX_set_verify(context, mode, NULL);
  SSL_CTX_set_verify_depth(context, 2);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 0);
  ERR_clear_error();
  return self;
failed:
  SSL_CTX_free(context);
  free(self);
  return NULL;
}

void sfm_tls_context_free(sfm_tls_context *self) {
  if (!self) return;
  SSL_CTX_free(self->context);
  free(self);
}

sfm_tls *sfm_tls_new(sfm_tls_context *context, int descriptor) {
  sfm_tls *self = calloc(1, sizeof *self);
  if (!self) return NULL;
  self->ssl = SSL_new(context->context);
  if (!self->ssl || SSL_set_fd(self->ssl, descriptor) != 1) {
    sfm_tls_free(self);
    return NULL;
  }
  self->server = SSL_CTX_get_ssl_method(context->context) == TLS_server_method();
  if (self->server) {
    SSL_set_accept_state(self->ssl);
  } else {
    SSL_set_connect_state(self->ssl);
  }
  return self;
}

void sfm_tls_free(sfm_tls *self) {
  if (!self) return;
  SSL_free(self->ssl);
  free(self);
}

static int code(sfm_tls *self, int value) {
  switch (SSL_get_error(self->ssl, value)) {
    case SSL_ERROR_WANT_READ: return SFM_TLS_WANT_READ;
    case SSL_ERROR_WANT_WRITE: return SFM_TLS_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN: return SFM_TLS_CLOSED;
    // A reset or an end of file without close_notify: the frames above tell whether anything was cut.
    case SSL_ERROR_SYSCALL: return SFM_TLS_CLOSED;
    default:
      return ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING ? SFM_TLS_CLOSED
                                                                                        : SFM_TLS_FAILED;
  }
}

int sfm_tls_handshake(sfm_tls *self) {
  ERR_clear_error();
  int value = SSL_do_handshake(self->ssl);
  return value == 1 ? 1 : code(self, value);
}

long sfm_tls_read(sfm_tls *self, void *buffer, size_t capacity) {
  ERR_clear_error();
  size_t got = 0;
  int value = SSL_read_ex(self->ssl, buffer, capacity, &got);
  return value == 1 ? (long)got : code(self, value);
}

long sfm_tls_write(sfm_tls *self, const void *buffer, size_t count) {
  ERR_clear_error();
  size_t taken = 0;
  int value = SSL_write_ex(self->ssl, buffer, count, &taken);
  return value == 1 ? (long)taken : code(self, value);
}

void sfm_tls_shutdown(sfm_tls *self) {
  ERR_clear_error();
  if (SSL_is_init_finished(self->ssl)) SSL_shutdown(self->ssl);
  ERR_clear_error();
}

int sfm_tls_peer_uri(sfm_tls *self, char *uri, size_t capacity) {
  X509 *certificate = SSL_get1_peer_certificate(self->ssl);
  if (!certificate) return 0;
  int length = -1;
  GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
  for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
    GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
    if (name->type != GEN_URI) continue;
    if (length >= 0) {
      length = -1;
      break;
    }
    int count = ASN1_STRING_length(name->d.uniformResourceIdentifier);
    const unsigned char *bytes = ASN1_STRING_get0_data(name->d.uniformResourceIdentifier);
    if (count <= 0 || (size_t)count >= capacity || memchr(bytes, 0, (size_t)count)) break;
    memcpy(uri, bytes, (size_t)count);
    uri[count] = 0;
    length = count;
  }
  GENERAL_NAMES_free(names);
  X509_free(certificate);
  return length;
}

void sfm_tls_error(sfm_tls *self, char *text, size_t capacity) {
  long verification = self ? SSL_get_verify_result(self->ssl) : X509_V_OK;
  if (verification != X509_V_OK) {
    snprintf(text, capacity, "certificate refused: %s", X509_verify_cert_error_string(verification));
    ERR_clear_error();
    return;
  }
  explain(text, capacity, "TLS failed");
}
