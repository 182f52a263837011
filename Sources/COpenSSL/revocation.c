#include "sfm_revocation.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <time.h>

static int seconds_of(const ASN1_TIME *time, int64_t *seconds) {
  struct tm parts;
  if (ASN1_TIME_to_tm(time, &parts) != 1) return 0;
  *seconds = (int64_t)timegm(&parts);
  return 1;
}

static const char *const not_signed = "the cluster's authority did not sign it";

// Null where one of the authority's certificates signed the list, else what is wrong.
static const char *check_signature(X509_CRL *list, const char *authority_pem) {
  BIO *bio = BIO_new_mem_buf(authority_pem, -1);
  if (!bio) return "out of memory";
  const char *failure = not_signed;
  X509 *authority;
  while (failure == not_signed && (authority = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
    EVP_PKEY *key = X509_get0_pubkey(authority);
    if (key && X509_NAME_cmp(X509_CRL_get_issuer(list), X509_get_subject_name(authority)) == 0 &&
        X509_CRL_verify(list, key) == 1) {
      // TLS would refuse the list, and with it every peer.
      failure = X509_get_key_usage(authority) & KU_CRL_SIGN
                    ? NULL
                    : "the authority's certificate does not allow it to sign revocation lists";
    }
    X509_free(authority);
  }
  BIO_free(bio);
  return failure;
}

// Null on success, else what is wrong.
static const char *add(X509_CRL *list, const char *authority_pem, sfm_revocation_summary *summary) {
  const char *failure = authority_pem ? check_signature(list, authority_pem) : NULL;
  if (failure) return failure;
  int64_t starts, ends;
  if (!seconds_of(X509_CRL_get0_lastUpdate(list), &starts)) return "its date cannot be read";
  if (starts > summary->starts) summary->starts = starts;
  const ASN1_TIME *next = X509_CRL_get0_nextUpdate(list);
  if (next) {
    if (!seconds_of(next, &ends)) return "its end cannot be read";
    if (ends < summary->ends) summary->ends = ends;
  }
  STACK_OF(X509_REVOKED) *revoked = X509_CRL_get_REVOKED(list);
  if (revoked) summary->revoked += sk_X509_REVOKED_num(revoked);
  summary->lists++;
  return NULL;
}

int sfm_revocation_read(const char *pem, const char *authority_pem, sfm_revocation_summary *summary, char *error,
                        size_t error_capacity) {
  *summary = (sfm_revocation_summary){.starts = INT64_MIN, .ends = INT64_MAX};
  const char *failure = NULL;
  BIO *bio = BIO_new_mem_buf(pem, -1);
  if (!bio) failure = "out of memory";
  X509_CRL *list;
  while (!failure && (list = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL))) {
    failure = add(list, authority_pem, summary);
    X509_CRL_free(list);
  }
  // What stopped the reading: the end of the text, or a list that is none.
  if (!failure && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) failure = "it is not a list in PEM";
  if (!failure && summary->lists == 0) failure = "it holds no list in PEM";
  BIO_free(bio);
  ERR_clear_error();
  if (failure) snprintf(error, error_capacity, "%s", failure);
  return !failure;
}
