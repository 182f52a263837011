// What a certificate revocation list says, for logs and checks; TLS itself reads the list once more.
#ifndef SFM_REVOCATION_H
#define SFM_REVOCATION_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
  int lists;
  long revoked;
  /// Seconds since 1970: the latest beginning and the earliest end; the end is INT64_MAX where no list has one.
  int64_t starts, ends;
} sfm_revocation_summary;

/// Reads the lists in `pem`, and where `authority_pem` is given checks that it signed them all. 0 on failure,
/// with a reason in `error`.
int sfm_revocation_read(const char *_Nonnull pem, const char *_Nullable authority_pem,
                        sfm_revocation_summary *_Nonnull summary, char *_Nonnull error, size_t error_capacity);

#endif
