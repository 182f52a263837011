// TLS 1.3 with OpenSSL for the Swift module RPC: contexts from PEM in memory, one stream a socket.
#ifndef SFM_TLS_H
#define SFM_TLS_H

#include <stddef.h>
#include <stdint.h>

#include "sfm_revocation.h"

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

/// A client's latest session with one server, for resumption. Used by one thread at a time.
typedef struct sfm_tls_session sfm_tls_session;
sfm_tls_session *_Nullable sfm_tls_session_new(void);
void sfm_tls_session_free(sfm_tls_session *_Nullable session);

/// Certificate and key may be NULL for a client that has none yet; `revocation_pem` for no revocation list.
/// With a list every peer's certificate is checked against it. NULL on failure, with a reason in `error`.
sfm_tls_context *_Nullable sfm_tls_context_new(int server, const char *_Nullable certificate_pem,
                                               const char *_Nullable key_pem, const char *_Nonnull authority_pem,
                                               const char *_Nullable revocation_pem, int verify,
                                               char *_Nonnull error, size_t error_capacity);
void sfm_tls_context_free(sfm_tls_context *_Nullable context);

/// Takes over nothing: the caller closes the descriptor and frees `session` after the stream.
sfm_tls *_Nullable sfm_tls_new(sfm_tls_context *_Nonnull context, int descriptor,
                               sfm_tls_session *_Nullable session);
void sfm_tls_free(sfm_tls *_Nullable tls);
/// 1 when done, or one of the negative codes. What it has to say is sent as far as the socket takes it.
int sfm_tls_handshake(sfm_tls *_Nonnull tls);
/// 1 where the handshake continued an earlier session.
int sfm_tls_is_resumed(const sfm_tls *_Nonnull tls);
/// Whether buffers stay between records: a busy connection is faster with them, an idle one smaller without.
void sfm_tls_keep_buffers(sfm_tls *_Nonnull tls, int keep);
/// The socket may have bytes again: until then reads that found it empty do not ask it once more.
void sfm_tls_socket_is_readable(sfm_tls *_Nonnull tls);
/// Bytes read (> 0) or a negative code.
long sfm_tls_read(sfm_tls *_Nonnull tls, void *_Nonnull buffer, size_t capacity);
/// Encrypts all of the bytes and sends them as far as the socket takes them; the rest is kept. `more` where others
/// follow at once. 1, or a negative code.
int sfm_tls_encrypt(sfm_tls *_Nonnull tls, const void *_Nonnull buffer, size_t count, int more);
/// Encrypted bytes that the socket has not taken yet.
size_t sfm_tls_unsent(const sfm_tls *_Nonnull tls);
/// Sends what was kept. 1 where nothing is left, WANT_WRITE where the socket is full, or CLOSED.
int sfm_tls_send(sfm_tls *_Nonnull tls);
/// Sends close_notify, best effort.
void sfm_tls_shutdown(sfm_tls *_Nonnull tls);
/// The one URI in the peer certificate's subject alternative names. Length, 0 without a certificate,
/// -1 where there is not exactly one URI, or it holds a zero byte, or it does not fit.
/// -2 where the session was resumed and the certificate is not valid any more.
int sfm_tls_peer_uri(sfm_tls *_Nonnull tls, char *_Nonnull uri, size_t capacity);
/// 1 where a list of `context` names the peer's certificate.
int sfm_tls_peer_is_revoked(sfm_tls *_Nonnull tls, sfm_tls_context *_Nonnull context);
/// The reason of the last failure on this thread, cleared by reading.
void sfm_tls_error(sfm_tls *_Nullable tls, char *_Nonnull text, size_t capacity);

#endif
