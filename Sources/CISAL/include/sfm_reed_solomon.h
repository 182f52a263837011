// Reed-Solomon over GF(2^8), polynomial 0x11D, through Intel's ISA-L.
//
// Shard i < k of a group is the data shard itself; shard i >= k has the coefficient 1 / (i xor d) for data shard d.
// Every k x k selection of these rows has an inverse for up to 256 shards, so any k shards give back all.
#ifndef SFM_REED_SOLOMON_H
#define SFM_REED_SOLOMON_H

#include <stddef.h>
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

enum {
  /// Largest number of data shards that these functions take.
  SFM_RS_MAXIMUM_DATA_SHARDS = 32,
  /// Bytes of prepared tables for each coefficient.
  SFM_RS_TABLE_BYTES = 32,
};

/// Coefficients (rows x data_count, row by row) that turn the shards `available` (data_count of them, distinct) into
/// the shards `wanted`. Returns 0 where the shard numbers are not distinct or out of range.
int sfm_rs_coefficients(size_t data_count, const uint8_t *_Nonnull available, size_t wanted_count,
                        const uint8_t *_Nonnull wanted, uint8_t *_Nonnull coefficients);

/// Prepares tables of 32 bytes a coefficient.
void sfm_rs_prepare(size_t data_count, size_t wanted_count, const uint8_t *_Nonnull coefficients,
                    uint8_t *_Nonnull tables);

/// Computes `byte_count` bytes of each wanted shard from as many of each available one.
void sfm_rs_apply(size_t data_count, size_t wanted_count, const uint8_t *_Nonnull tables, size_t byte_count,
                  const uint8_t *_Nonnull const *_Nonnull sources, uint8_t *_Nonnull const *_Nonnull destinations);

#if defined(__cplusplus)
}
#endif
#endif
