#include "row_operations.h"

#include <string.h>

#include "function_clones.h"

void sfmedir_repeat_row(const float *values, float *out, size_t rows, size_t channels) {
  for (size_t r = 0; r < rows; r++) memcpy(out + r * channels, values, channels * sizeof(float));
}

SFMEDIR_VECTOR_CLONES
void sfmedir_add_scaled_rows(const float *branch, const float *scale, float *restrict state,
                                    size_t rows, size_t channels) {
  for (size_t r = 0; r < rows; r++, branch += channels, state += channels)
    for (size_t c = 0; c < channels; c++) state[c] += scale[c] * branch[c];
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
