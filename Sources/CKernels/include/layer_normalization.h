// Layer normalisation over the channels of NHWC rows (Ba, Kiros and Hinton, 2016), without its weight and bias.
#pragma once

#include <stddef.h>

// out[r][c] = (in[r][c] - mean_r) * scale_r with scale_r = 1 / sqrt(variance_r + epsilon) and the biased variance of
// each row; scales[r] = scale_r. in and out: [rows][channels], and may be the same memory; channels > 0.
void sfmedir_standardize_rows(const float *in, float epsilon, float *out, float *scales, size_t rows,
                              size_t channels);

// Gradient with regard to what was standardized, from the one with regard to what came of it:
// out[r][c] = (g[r][c] - mean_r(g) - y[r][c] mean_r(g y)) * scale_r. gradient and out may be the same memory.
void sfmedir_standardize_rows_backward(const float *gradient, const float *standardized,
                                       const float *scales, float *out, size_t rows,
                                       size_t channels);
