// The exact Gaussian error linear unit (Hendrycks and Gimpel, 2016), not its tanh approximation.
#pragma once

#include <stddef.h>

// out[r][c] = x/2 (1 + erf(x / sqrt 2)) for x = in[r][c] + bias[c]. in and out may be the same memory.
// Agrees with the real function to 2e-7 max(1, |x|) over all finite float32.
void sfmedir_gelu(const float *in, const float *bias, float *out, size_t rows, size_t channels);

// The same times `factor`, with relative accuracy also far below 0, and its derivative times `factor` in place of what came
// in; out is other memory.
void sfmedir_gelu_with_derivative(float *in, const float *bias, float factor, float *out,
                                  size_t rows, size_t channels);
