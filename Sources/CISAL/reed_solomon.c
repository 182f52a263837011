#include "sfm_reed_solomon.h"

#include <isa-l.h>
#include <string.h>

enum { MAXIMUM = SFM_RS_MAXIMUM_DATA_SHARDS };

static void generator_row(size_t data_count, uint8_t shard, uint8_t *row) {
  for (size_t d = 0; d < data_count; d++) {
    row[d] = shard < data_count ? shard == d : gf_inv((uint8_t)(shard ^ d));
  }
}

int sfm_rs_coefficients(size_t data_count, const uint8_t *available, size_t wanted_count, const uint8_t *wanted,
                        uint8_t *coefficients) {
  if (data_count == 0 || data_count > MAXIMUM) return 0;
  uint8_t rows[MAXIMUM * MAXIMUM], inverse[MAXIMUM * MAXIMUM], row[MAXIMUM];
  for (size_t j = 0; j < data_count; j++) generator_row(data_count, available[j], rows + j * data_count);
  // A shard given twice makes two rows equal, which is the only way for the inverse not to exist.
  if (gf_invert_matrix(rows, inverse, (int)data_count) != 0) return 0;
  for (size_t w = 0; w < wanted_count; w++) {
    generator_row(data_count, wanted[w], row);
    for (size_t j = 0; j < data_count; j++) {
      uint8_t sum = 0;
      for (size_t d = 0; d < data_count; d++) sum ^= gf_mul(row[d], inverse[d * data_count + j]);
      coefficients[w * data_count + j] = sum;
    }
  }
  return 1;
}

void sfm_rs_prepare(size_t data_count, size_t wanted_count, const uint8_t *coefficients, uint8_t *tables) {
  ec_init_tables((int)data_count, (int)wanted_count, (unsigned char *)coefficients, tables);
}

void sfm_rs_apply(size_t data_count, size_t wanted_count, const uint8_t *tables, size_t byte_count,
                  const uint8_t *const *sources, uint8_t *const *destinations) {
  // Pieces small enough that the sources stay in the first-level cache while each group of outputs is made; the
  // library also counts bytes in int.
  enum { PIECE = 4096 };
  unsigned char *from[MAXIMUM], *to[256];
  for (size_t at = 0; at < byte_count; at += PIECE) {
    size_t count = byte_count - at < PIECE ? byte_count - at : PIECE;
    for (size_t j = 0; j < data_count; j++) from[j] = (unsigned char *)sources[j] + at;
    for (size_t w = 0; w < wanted_count; w++) to[w] = destinations[w] + at;
    ec_encode_data((int)count, (int)data_count, (int)wanted_count, (unsigned char *)tables, from, to);
  }
}
