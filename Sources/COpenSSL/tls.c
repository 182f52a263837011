#include "sfm_tls.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
  maximum_revocation_lists = 8,
  // One recv(2) takes many records; the buffer exists only while a read is under way or the connection is busy.
  input_bytes = 128 << 10,
  session_seconds = 3600,
  records_a_key = 1 << 23,
  maximum_unsent_bytes = 1 << 20,
};

struct sfm_tls_context {
  SSL_CTX *context;
  // No two contexts have the same, while an address may come again.
  uint64_t number;
  X509_CRL *revocations[maximum_revocation_lists];
  int revocation_count;
};

struct sfm_tls_session {
  SSL_SESSION *session;
  // A session belongs to the settings it was made under: other certificates start anew.
  uint64_t context_number;
};

struct sfm_tls {
  SSL *ssl;
  int server;
  int descriptor;
  // The last recv(2) came back short: the socket was empty then.
  int drained;
  sfm_tls_session *session;
  uint64_t context_number;
  // Records of the bytes being encrypted that have not come yet, and whether the caller has more behind them:
  // the kernel then waits with its last, partly filled segment.
  size_t records_left;
  size_t records;
  int more;
  int broken;
  // What came and was not decrypted yet: many records of one recv(2), which OpenSSL then takes one by one. Its own
  // reading ahead moves all that is left whenever it begins a record.
  uint8_t *input;
  size_t input_start, input_end;
  int keeps_input;
  // What the socket did not take.
  uint8_t *unsent;
  size_t unsent_start, unsent_count, unsent_capacity;
};

static BIO_METHOD *socket_method;
static int stream_index = -1;
static pthread_once_t once = PTHREAD_ONCE_INIT;

// 1 all sent, 0 the socket is full, -1 it is broken.
static int send_some(int descriptor, const uint8_t *bytes, size_t count, int flags, size_t *sent) {
  *sent = 0;
  while (*sent < count) {
    ssize_t taken = send(descriptor, bytes + *sent, count - *sent, MSG_NOSIGNAL | flags);
    if (taken >= 0) {
      *sent += (size_t)taken;
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return 0;
    } else if (errno != EINTR) {
      return -1;
    }
  }
  return 1;
}

static int keep_unsent(sfm_tls *self, const uint8_t *bytes, size_t count) {
  if (count == 0) return 1;
  // What a caller encrypts at once is far less: more are answers (key updates) to a peer that does not read.
  if (self->unsent_count + count > maximum_unsent_bytes) return 0;
  size_t end = self->unsent_start + self->unsent_count;
  if (count > self->unsent_capacity - end) {
    size_t capacity = 2 * (self->unsent_count + count);
    uint8_t *kept = malloc(capacity);
    if (!kept) return 0;
    if (self->unsent_count) memcpy(kept, self->unsent + self->unsent_start, self->unsent_count);
    free(self->unsent);
    self->unsent = kept;
    self->unsent_capacity = capacity;
    self->unsent_start = 0;
    end = self->unsent_count;
  }
  memcpy(self->unsent + end, bytes, count);
  self->unsent_count += count;
  return 1;
}

// A record goes from OpenSSL's buffer to the socket; only what the socket refuses is kept. It never fails for
// OpenSSL: a broken socket shows at the next sfm_tls_send.
static int socket_write(BIO *bio, const char *bytes, size_t count, size_t *written) {
  sfm_tls *self = BIO_get_data(bio);
  BIO_clear_retry_flags(bio);
  *written = count;
  if (self->records_left) self->records_left--;
  if (self->broken) return 1;
  size_t sent = 0;
  if (!self->unsent_count) {
    int flags = self->records_left || self->more ? MSG_MORE : 0;
    if (send_some(self->descriptor, (const uint8_t *)bytes, count, flags, &sent) < 0) self->broken = 1;
  }
  if (!self->broken && !keep_unsent(self, (const uint8_t *)bytes + sent, count - sent)) self->broken = 1;
  return 1;
}

// Fills the empty input. 1 filled, 0 nothing there, -1 the peer has ended, -2 broken.
static int receive(sfm_tls *self) {
  if (self->drained) return 0;
  if (!self->input && !(self->input = malloc(input_bytes))) return -2;
  ssize_t count;
  do {
    count = recv(self->descriptor, self->input, input_bytes, 0);
  } while (count < 0 && errno == EINTR);
  if (count < 0) return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -2;
  if (count == 0) return -1;
  self->drained = (size_t)count < input_bytes;
  self->input_start = 0;
  self->input_end = (size_t)count;
  return 1;
}

static int socket_read(BIO *bio, char *bytes, size_t capacity, size_t *got) {
  sfm_tls *self = BIO_get_data(bio);
  BIO_clear_retry_flags(bio);
  if (self->input_start == self->input_end) {
    int state = receive(self);
    if (state == 0) BIO_set_retry_read(bio);
    if (state == -1) BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
    if (state != 1) return 0;
  }
  size_t left = self->input_end - self->input_start;
  *got = capacity < left ? capacity : left;
  memcpy(bytes, self->input + self->input_start, *got);
  self->input_start += *got;
  return 1;
}

// A connection that is not busy needs no memory of its own.
static void release_input(sfm_tls *self) {
  if (self->keeps_input || self->input_start < self->input_end) return;
  free(self->input);
  self->input = NULL;
}

static long socket_control(BIO *bio, int command, long argument, void *pointer) {
  (void)argument;
  (void)pointer;
  switch (command) {
    case BIO_CTRL_FLUSH: return 1;
    case BIO_CTRL_EOF: return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
    default: return 0;
  }
}

static void set_up(void) {
  stream_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
  socket_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK | BIO_TYPE_DESCRIPTOR, "sfmedir socket");
  if (!socket_method) return;
  BIO_meth_set_write_ex(socket_method, socket_write);
  BIO_meth_set_read_ex(socket_method, socket_read);
  BIO_meth_set_ctrl(socket_method, socket_control);
}

sfm_tls_session *sfm_tls_session_new(void) { return calloc(1, sizeof(sfm_tls_session)); }

void sfm_tls_session_free(sfm_tls_session *self) {
  if (!self) return;
  SSL_SESSION_free(self->session);
  free(self);
}

static int keep_session(SSL *ssl, SSL_SESSION *session) {
  sfm_tls *self = SSL_get_ex_data(ssl, stream_index);
  if (!self || !self->session) return 0;
  SSL_SESSION_free(self->session->session);
  self->session->session = session;
  self->session->context_number = self->context_number;
  return 1;
}

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

static int use_revocations(sfm_tls_context *self, const char *pem) {
  BIO *bio = BIO_new_mem_buf(pem, -1);
  if (!bio) return 0;
  X509_STORE *store = SSL_CTX_get_cert_store(self->context);
  X509_CRL *list;
  int ok = 1;
  while (ok && (list = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL))) {
    ok = self->revocation_count < maximum_revocation_lists && X509_STORE_add_crl(store, list) == 1;
    if (ok) {
      self->revocations[self->revocation_count++] = list;
    } else {
      X509_CRL_free(list);
    }
  }
  BIO_free(bio);
  ERR_clear_error();
  return ok && self->revocation_count > 0 && X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK) == 1;
}

sfm_tls_context *sfm_tls_context_new(int server, const char *certificate_pem, const char *key_pem,
                                     const char *authority_pem, const char *revocation_pem, int verify, char *error,
                                     size_t error_capacity) {
  pthread_once(&once, set_up);
  ERR_clear_error();
  sfm_tls_context *self = calloc(1, sizeof *self);
  SSL_CTX *context = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
  if (!self || !context) {
    snprintf(error, error_capacity, "out of memory");
    goto failed;
  }
  self->context = context;
  static uint64_t last_number;
  self->number = __atomic_add_fetch(&last_number, 1, __ATOMIC_RELAXED);
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
  if (revocation_pem && !use_revocations(self, revocation_pem)) {
    explain(error, error_capacity, "the revocation list cannot be read");
    goto failed;
  }
  int mode = SSL_VERIFY_PEER;
  if (server && verify == SFM_TLS_VERIFY_REQUIRED) mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
  SSL_CTX_set_verify(context, mode, NULL);
  SSL_CTX_set_verify_depth(context, 2);
  // What the socket does not take is kept here, so a write is never partial.
  SSL_CTX_set_mode(context, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_timeout(context, session_seconds);
  if (server) {
    // Tickets carry the session, sealed under keys that live and die with this context: new certificates or
    // revocations mean a new context, and no older ticket opens there.
    static const unsigned char name[] = "sfmedir";
    SSL_CTX_set_session_id_context(context, name, sizeof name - 1);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(context, 1);
  } else {
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, keep_session);
  }
  ERR_clear_error();
  return self;
failed:
  if (self) self->context = context;
  if (!self) SSL_CTX_free(context);
  sfm_tls_context_free(self);
  return NULL;
}

void sfm_tls_context_free(sfm_tls_context *self) {
  if (!self) return;
  for (int i = 0; i < self->revocation_count; i++) X509_CRL_free(self->revocations[i]);
  SSL_CTX_free(self->context);
  free(self);
}

sfm_tls *sfm_tls_new(sfm_tls_context *context, int descriptor, sfm_tls_session *session) {
  sfm_tls *self = calloc(1, sizeof *self);
  if (!self) return NULL;
  self->descriptor = descriptor;
  self->session = session;
  self->context_number = context->number;
  self->ssl = SSL_new(context->context);
  BIO *bio = self->ssl && socket_method ? BIO_new(socket_method) : NULL;
  if (!bio || SSL_set_ex_data(self->ssl, stream_index, self) != 1) {
    BIO_free(bio);
    SSL_free(self->ssl);
    free(self);
    return NULL;
  }
  BIO_set_data(bio, self);
  BIO_set_init(bio, 1);
  SSL_set_bio(self->ssl, bio, bio);
  self->server = SSL_CTX_get_ssl_method(context->context) == TLS_server_method();
  if (self->server) {
    SSL_set_accept_state(self->ssl);
    return self;
  }
  SSL_set_connect_state(self->ssl);
  if (session && session->session) {
    if (session->context_number == context->number) SSL_set_session(self->ssl, session->session);
    // A ticket is for one use: two connections with the same one could be told to belong together.
    SSL_SESSION_free(session->session);
    session->session = NULL;
  }
  return self;
}

void sfm_tls_free(sfm_tls *self) {
  if (!self) return;
  // Without this OpenSSL takes the session for a broken one and never resumes it.
  if (SSL_is_init_finished(self->ssl)) SSL_set_shutdown(self->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  SSL_free(self->ssl);
  free(self->input);
  free(self->unsent);
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
  int outcome = value == 1 ? 1 : code(self, value);
  release_input(self);
  // An alert that says why, too, has to leave.
  int sent = sfm_tls_send(self);
  if (outcome == SFM_TLS_WANT_READ && sent != 1) return sent;
  return outcome;
}

int sfm_tls_is_resumed(const sfm_tls *self) { return SSL_session_reused((SSL *)self->ssl); }

void sfm_tls_keep_buffers(sfm_tls *self, int keep) {
  self->keeps_input = keep;
  release_input(self);
  if (keep) {
    SSL_clear_mode(self->ssl, SSL_MODE_RELEASE_BUFFERS);
  } else {
    SSL_set_mode(self->ssl, SSL_MODE_RELEASE_BUFFERS);
    SSL_free_buffers(self->ssl);
  }
}

void sfm_tls_socket_is_readable(sfm_tls *self) { self->drained = 0; }

long sfm_tls_read(sfm_tls *self, void *buffer, size_t capacity) {
  ERR_clear_error();
  size_t got = 0;
  int value = SSL_read_ex(self->ssl, buffer, capacity, &got);
  if (value == 1) return (long)got;
  release_input(self);
  return code(self, value);
}

int sfm_tls_encrypt(sfm_tls *self, const void *buffer, size_t count, int more) {
  ERR_clear_error();
  size_t taken = 0;
  self->records_left = (count + SSL3_RT_MAX_PLAIN_LENGTH - 1) / SSL3_RT_MAX_PLAIN_LENGTH;
  self->more = more;
  self->records += self->records_left;
  if (self->records >= records_a_key) {
    // AES-GCM wears out: RFC 8446, 5.5. The new key is used from the next record on, by both sides.
    self->records = 0;
    SSL_key_update(self->ssl, SSL_KEY_UPDATE_REQUESTED);
  }
  int value = SSL_write_ex(self->ssl, buffer, count, &taken);
  self->records_left = 0;
  self->more = 0;
  return value == 1 ? 1 : code(self, value);
}

size_t sfm_tls_unsent(const sfm_tls *self) { return self->unsent_count; }

int sfm_tls_send(sfm_tls *self) {
  if (self->broken) return SFM_TLS_CLOSED;
  if (!self->unsent_count) return 1;
  size_t sent;
  int state = send_some(self->descriptor, self->unsent + self->unsent_start, self->unsent_count, 0, &sent);
  self->unsent_start += sent;
  self->unsent_count -= sent;
  if (state < 0) self->broken = 1;
  if (state != 1) return state < 0 ? SFM_TLS_CLOSED : SFM_TLS_WANT_WRITE;
  free(self->unsent);
  self->unsent = NULL;
  self->unsent_start = 0;
  self->unsent_capacity = 0;
  return 1;
}

void sfm_tls_shutdown(sfm_tls *self) {
  ERR_clear_error();
  if (SSL_is_init_finished(self->ssl)) SSL_shutdown(self->ssl);
  sfm_tls_send(self);
  ERR_clear_error();
}

// A resumed session carries the peer's certificate along unchecked: the authority, the times and the revocation
// lists are held against it again, as in a full handshake.
static int is_still_valid(sfm_tls *self, X509 *certificate) {
  X509_STORE_CTX *check = X509_STORE_CTX_new();
  X509_STORE *store = SSL_CTX_get_cert_store(SSL_get_SSL_CTX(self->ssl));
  int valid = check && X509_STORE_CTX_init(check, store, certificate, SSL_get_peer_cert_chain(self->ssl)) == 1 &&
              X509_STORE_CTX_set_purpose(check, self->server ? X509_PURPOSE_SSL_CLIENT : X509_PURPOSE_SSL_SERVER) == 1 &&
              X509_verify_cert(check) == 1;
  X509_STORE_CTX_free(check);
  ERR_clear_error();
  return valid;
}

int sfm_tls_peer_uri(sfm_tls *self, char *uri, size_t capacity) {
  X509 *certificate = SSL_get1_peer_certificate(self->ssl);
  if (!certificate) return 0;
  if (SSL_session_reused(self->ssl) && !is_still_valid(self, certificate)) {
    X509_free(certificate);
    return -2;
  }
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

int sfm_tls_peer_is_revoked(sfm_tls *self, sfm_tls_context *context) {
  X509 *certificate = SSL_get1_peer_certificate(self->ssl);
  if (!certificate) return 0;
  int revoked = 0;
  for (int i = 0; i < context->revocation_count && !revoked; i++) {
    X509_REVOKED *entry = NULL;
    revoked = X509_CRL_get0_by_cert(context->revocations[i], &entry, certificate) == 1;
  }
  X509_free(certificate);
  return revoked;
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

// At exit OpenSSL would free what threads that still run are using: an event loop ends with its process, not before.
__attribute__((constructor)) static void keep_openssl_until_the_end(void) {
  OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL);
}
