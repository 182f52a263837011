// The exact Gaussian error linear unit (Hendrycks and Gimpel, 2016), not its tanh approximation.
#pragma once

#include <stddef.h>

// out[i] = x/2 (1 + erf(x / sqrt 2)) for x = in[i]. in and out may be the same memory.
// Agrees with the real function to 2e-7 max(1, |x|) over all finite float32.
void sfmedir_gelu(const float *in, float *out, size_t count);
