// Small operations on matrices of rows by channels, one pixel of an NHWC image a row.
//
// Where nothing else is said, in and out may be the same memory.
#pragma once

#include <stddef.h>

// out[r][c] = values[c]: what a matrix product then adds to, so that the bias costs no pass of its own.
void sfmedir_repeat_row(const float *values, float *out, size_t rows, size_t channels);

// out[r][c] += factor * values[c]
void sfmedir_add_row(const float *values, float factor, float *restrict out, size_t rows, size_t channels);

// out[r][c] = in[r][c] * weight[c] + bias[c]
void sfmedir_scale_and_shift_rows(const float *in, const float *weight, const float *bias, float *out, size_t rows,
                                  size_t channels);

// out[r][c] = in[r][c] * weight[c]
void sfmedir_scale_rows(const float *in, const float *weight, float *out, size_t rows, size_t channels);

// out[i] = in[i] * factors[i]
void sfmedir_multiply(const float *in, const float *factors, float *out, size_t count);

// sums[c] += factor * (sum over r of in[r][c])
void sfmedir_add_column_sums(const float *in, float factor, float *restrict sums, size_t rows, size_t channels);

// sums[c] += sum over r of in[r][c] * factors[r][c]
void sfmedir_add_column_products(const float *in, const float *factors, float *restrict sums, size_t rows,
                                 size_t channels);

// values[r][c] *= factors[r][c], and sums[c] += sum over r of what came of it
void sfmedir_multiply_and_sum(float *restrict values, const float *factors, float *restrict sums, size_t rows,
                              size_t channels);

// out[g][c] = mean over the group's rows of in[g][row][c]. in: [groups][rows_per_group][channels]; out is other memory.
void sfmedir_mean_of_rows(const float *in, float *restrict out, size_t groups,
                          size_t rows_per_group, size_t channels);

// out[g][row][c] = gradient[g][c] / rows_per_group; out is other memory.
void sfmedir_mean_of_rows_backward(const float *gradient, float *restrict out, size_t groups, size_t rows_per_group,
                                   size_t channels);
