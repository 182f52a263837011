#include "row_operations.h"

#include <string.h>

#include "function_clones.h"

void sfmedir_repeat_row(const float *values, float *out, size_t rows, size_t channels) {
  for (size_t r = 0; r < rows; r++) memcpy(out + r * channels, values, channels * sizeof(float));
}

SFMEDIR_VECTOR_CLONES
void sfmedir_add_row(const float *values, float factor, float *restrict out, size_t rows, size_t channels) {
  for (size_t r = 0; r < rows; r++, out += channels)
    for (size_t c = 0; c < channels; c++) out[c] += factor * values[c];
}

SFMEDIR_VECTOR_CLONES
void sfmedir_scale_and_shift_rows(const float *in, const float *weight, const float *bias, float *out, size_t rows,
                                  size_t channels) {
  for (size_t r = 0; r < rows; r++, in += channels, out += channels) {
#pragma clang loop vectorize(assume_safety)
    for (size_t c = 0; c < channels; c++) out[c] = in[c] * weight[c] + bias[c];
  }
}

SFMEDIR_VECTOR_CLONES
void sfmedir_scale_rows(const float *in, const float *weight, float *out, size_t rows, size_t channels) {
  for (size_t r = 0; r < rows; r++, in += channels, out += channels) {
#pragma clang loop vectorize(assume_safety)
    for (size_t c = 0; c < channels; c++) out[c] = in[c] * weight[c];
  }
}

SFMEDIR_VECTOR_CLONES
void sfmedir_multiply(const float *in, const float *factors, float *out, size_t count) {
#pragma clang loop vectorize(assume_safety)
  for (size_t i = 0; i < count; i++) out[i] = in[i] * factors[i];
}

// Four rows at a time: the sums are loaded and stored once for them.
#define BY_FOUR_ROWS(one, four)                        \
  size_t r = 0;                                        \
  for (; r + 4 <= rows; r += 4) {                      \
    const size_t at = r * channels;                    \
    _Pragma("clang loop vectorize(assume_safety)")     \
    for (size_t c = 0; c < channels; c++) { four; }    \
  }                                                    \
  for (; r < rows; r++) {                              \
    const size_t at = r * channels;                    \
    _Pragma("clang loop vectorize(assume_safety)")     \
    for (size_t c = 0; c < channels; c++) { one; }     \
  }

SFMEDIR_VECTOR_CLONES
void sfmedir_add_column_sums(const float *in, float factor, float *restrict sums, size_t rows, size_t channels) {
  const float *b = in + channels, *d = b + channels, *e = d + channels;
  BY_FOUR_ROWS(sums[c] += factor * in[at + c],
               sums[c] += factor * ((in[at + c] + b[at + c]) + (d[at + c] + e[at + c])))
}

SFMEDIR_VECTOR_CLONES
void sfmedir_add_column_products(const float *in, const float *factors, float *restrict sums, size_t rows,
                                 size_t channels) {
  const float *b = in + channels, *d = b + channels, *e = d + channels;
  const float *fb = factors + channels, *fd = fb + channels, *fe = fd + channels;
  BY_FOUR_ROWS(sums[c] += in[at + c] * factors[at + c],
               sums[c] += (in[at + c] * factors[at + c] + b[at + c] * fb[at + c]) +
                          (d[at + c] * fd[at + c] + e[at + c] * fe[at + c]))
}

SFMEDIR_VECTOR_CLONES
void sfmedir_multiply_and_sum(float *restrict values, const float *factors, float *restrict sums, size_t rows,
                              size_t channels) {
  float *b = values + channels, *d = b + channels, *e = d + channels;
  const float *fb = factors + channels, *fd = fb + channels, *fe = fd + channels;
  BY_FOUR_ROWS(const float v = values[at + c] * factors[at + c]; values[at + c] = v; sums[c] += v,
               const float v = values[at + c] * factors[at + c]; const float w = b[at + c] * fb[at + c];
               const float y = d[at + c] * fd[at + c]; const float z = e[at + c] * fe[at + c];
               values[at + c] = v; b[at + c] = w; d[at + c] = y; e[at + c] = z; sums[c] += (v + w) + (y + z))
}

SFMEDIR_VECTOR_CLONES
void sfmedir_mean_of_rows(const float *in, float *restrict out, size_t groups,
                                 size_t rows_per_group, size_t channels) {
  const float share = 1.0f / (float)rows_per_group;
  for (size_t g = 0; g < groups; g++, out += channels) {
    for (size_t c = 0; c < channels; c++) out[c] = 0;
    for (size_t r = 0; r < rows_per_group; r++, in += channels)
      for (size_t c = 0; c < channels; c++) out[c] += in[c];
    for (size_t c = 0; c < channels; c++) out[c] *= share;
  }
}

SFMEDIR_VECTOR_CLONES
void sfmedir_mean_of_rows_backward(const float *gradient, float *restrict out, size_t groups, size_t rows_per_group,
                                   size_t channels) {
  const float share = 1.0f / (float)rows_per_group;
  for (size_t g = 0; g < groups; g++, gradient += channels)
    for (size_t r = 0; r < rows_per_group; r++, out += channels)
      for (size_t c = 0; c < channels; c++) out[c] = gradient[c] * share;
}
