// Layer normalisation over the channels of NHWC rows (Ba, Kiros and Hinton, 2016).
#pragma once

#include <stddef.h>

// out[r][c] = (in[r][c] - mean_r) / sqrt(variance_r + epsilon) * weight[c] + bias[c], with the biased
// variance of each row. in and out: [rows][channels], and may be the same memory; channels > 0.
void sfmedir_layer_normalization(const float *in, const float *weight, const float *bias,
                                 float epsilon, float *out, size_t rows, size_t channels);
