// Small operations on matrices of rows by channels, one pixel of an NHWC image a row.
#pragma once

#include <stddef.h>

// out[r][c] = values[c]: what a matrix product then adds to, so that the bias costs no pass of its own.
void sfmedir_repeat_row(const float *values, float *out, size_t rows, size_t channels);

// state[r][c] += scale[c] * branch[r][c]: layer scale and residual connection of a ConvNeXt block.
void sfmedir_add_scaled_rows(const float *branch, const float *scale, float *restrict state,
                             size_t rows, size_t channels);

// out[g][c] = mean over the group's rows of in[g][row][c]. in: [groups][rows_per_group][channels].
void sfmedir_mean_of_rows(const float *in, float *restrict out, size_t groups,
                          size_t rows_per_group, size_t channels);
