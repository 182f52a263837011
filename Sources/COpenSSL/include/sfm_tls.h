// TLS 1.3 with OpenSSL for the Swift module RPC: contexts from PEM in memory, one stream a socket.
#ifndef SFM_TLS_H
#define SFM_TLS_H

#include <stddef.h>
#include <stdint.h>

typedef struct sfm_tls_context sfm_tls_context;
typedef struct sfm_tls sfm_tls;

enum {
  SFM_TLS_WANT_READ = -1,
  SFM_TLS_WANT_WRITE = -2,
  /// The peer closed, in order or not.
  SFM_TLS_CLOSED = -3,
  SFM_TLS_FAILED = -4,
};

/// How strictly the other side must show a certificate.
enum {
  SFM_TLS_VERIFY_REQUIRED = 0,
  /// Server only: a client without a certificate is let in (and may call little).
  SFM_TLS_VERIFY_OPTIONAL = 1,
};

/// Certificate and key may be NULL for a client that has none yet. NULL on failure, with a reason in `error`.
sfm_tls_context *_Nullable sfm_tls_context_new(int server, const char *_Nullable certificate_pem,
                                               const char *_Nullable key_pem, const char *_Nonnull authority_pem,
                                               int verify, char *_Nonnull error, size_t error_capacity);
void sfm_tls_context_free(sfm_tls_context *_Nullable context);

/// Takes over nothing: the caller closes the descriptor.
sfm_tls *_Nullable sfm_tls_new(sfm_tls_context *_Nonnull context, int descriptor);
void sfm_tls_free(sfm_tls *_Nullable tls);
/// 1 when done, or one of the negative codes.
int sfm_tls_handshake(sfm_tls *_Nonnull tls);
/// Bytes read (> 0) or a negative code.
long sfm_tls_read(sfm_tls *_Nonnull tls, void *_Nonnull buffer, size_t capacity);
/// Bytes taken (> 0) or a negative code.
long sfm_tls_write(sfm_tls *_Nonnull tls, const void *_Nonnull buffer, size_t count);
/// Sends close_notify, best effort.
void sfm_tls_shutdown(sfm_tls *_Nonnull tls);
/// The one URI in the peer certificate's subject alternative names. Length, 0 without a certificate,
/// -1 where there is not exactly one URI, or it holds a zero byte, or it does not fit.
int sfm_tls_peer_uri(sfm_tls *_Nonnull tls, char *_Nonnull uri, size_t capacity);
/// The reason of the last failure on this thread, cleared by reading.
void sfm_tls_error(sfm_tls *_Nullable tls, char *_Nonnull text, size_t capacity);

#endif
