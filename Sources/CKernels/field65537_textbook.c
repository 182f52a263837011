// The field and the projection in plain scalar code: the measure of the vector kernels, and what they fall back on
// for the rare block that they cannot do.
#include "field65537.h"

enum { PRIME = FIELD65537_PRIME, MAXIMUM_RANK = FIELD65537_MAXIMUM_RANK };

static uint32_t reduce(uint64_t value) { return (uint32_t)(value % PRIME); }

uint32_t field65537_invert(uint32_t value) {
  uint64_t power = value;
  for (int run = 1; run < 16; run *= 2) {
    uint64_t shifted = power;
    for (int k = 0; k < run; k++) shifted = reduce(shifted * shifted);
    power = reduce(shifted * power);
  }
  return (uint32_t)power;
}

// Gauss and Jordan on `square` beside the identity in `inverse`, both rank x rank.
static int invert_matrix(size_t rank, uint32_t square[][MAXIMUM_RANK], uint32_t inverse[][MAXIMUM_RANK]) {
  for (size_t column = 0; column < rank; column++) {
    size_t pivot = column;
    while (pivot < rank && square[pivot][column] == 0) pivot++;
    if (pivot == rank) return 0;
    for (size_t k = 0; k < rank; k++) {
      uint32_t left = square[pivot][k], right = inverse[pivot][k];
      square[pivot][k] = square[column][k];
      inverse[pivot][k] = inverse[column][k];
      square[column][k] = left;
      inverse[column][k] = right;
    }
    uint64_t scale = field65537_invert(square[column][column]);
    for (size_t k = 0; k < rank; k++) {
      square[column][k] = reduce(scale * square[column][k]);
      inverse[column][k] = reduce(scale * inverse[column][k]);
    }
    for (size_t row = 0; row < rank; row++) {
      uint64_t factor = PRIME - square[row][column];
      if (row == column) continue;
      for (size_t k = 0; k < rank; k++) {
        square[row][k] = reduce(square[row][k] + factor * square[column][k]);
        inverse[row][k] = reduce(inverse[row][k] + factor * inverse[column][k]);
      }
    }
  }
  return 1;
}

int field65537_project_one(size_t order, size_t rank, const uint32_t *matrix, uint32_t *projection) {
  uint32_t square[MAXIMUM_RANK][MAXIMUM_RANK] = {{0}}, inverse[MAXIMUM_RANK][MAXIMUM_RANK] = {{0}};
  for (size_t j = 0; j < rank; j++) {
    inverse[j][j] = 1;
    for (size_t k = 0; k < rank; k++) {
      uint64_t sum = 0;
      for (size_t row = 0; row < order; row++) sum += (uint64_t)matrix[row * rank + j] * matrix[row * rank + k];
      square[j][k] = reduce(sum);
    }
  }
  if (!invert_matrix(rank, square, inverse)) return 0;
  for (size_t row = 0; row < order; row++) {
    uint32_t left[MAXIMUM_RANK];
    for (size_t k = 0; k < rank; k++) {
      uint64_t sum = 0;
      for (size_t j = 0; j < rank; j++) sum += (uint64_t)matrix[row * rank + j] * inverse[j][k];
      left[k] = reduce(sum);
    }
    for (size_t column = 0; column < order; column++) {
      uint64_t sum = 0;
      for (size_t k = 0; k < rank; k++) sum += (uint64_t)left[k] * matrix[column * rank + k];
      projection[row * order + column] = reduce(sum);
    }
  }
  return 1;
}
