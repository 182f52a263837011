#include "layer_normalization.h"

#include "function_clones.h"

enum { LANES = 16 };

typedef float lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float))));
#define AT(pointer) (*(const lanes *)(pointer))

// The order of the additions is fixed, so every clone sums alike up to fused multiply-add.
static inline __attribute__((always_inline)) float sum_of_lanes(const lanes *value) {
  float partial[LANES];
  *(lanes *)partial = *value;
  for (size_t width = LANES / 2; width > 0; width /= 2)
    for (size_t i = 0; i < width; i++) partial[i] += partial[i + width];
  return partial[0];
}

SFMEDIR_VECTOR_CLONES
void sfmedir_standardize_rows(const float *in, float epsilon, float *out, float *scales, size_t rows,
                              size_t channels) {
  const size_t whole = channels / LANES * LANES;
  for (size_t r = 0; r < rows; r++, in += channels, out += channels) {
    lanes sums = {0};
    for (size_t c = 0; c < whole; c += LANES) sums += AT(in + c);
    float sum = sum_of_lanes(&sums);
    for (size_t c = whole; c < channels; c++) sum += in[c];
    const float mean = sum / (float)channels;

    // Two passes: the one-pass formula cancels where the mean is large beside the deviation.
    lanes squares = {0};
    for (size_t c = 0; c < whole; c += LANES) {
      const lanes deviation = AT(in + c) - mean;
      squares += deviation * deviation;
    }
    float square = sum_of_lanes(&squares);
    for (size_t c = whole; c < channels; c++) square += (in[c] - mean) * (in[c] - mean);
    const float scale = 1.0f / __builtin_elementwise_sqrt(square / (float)channels + epsilon);

    for (size_t c = 0; c < whole; c += LANES) *(lanes *)(out + c) = (AT(in + c) - mean) * scale;
    for (size_t c = whole; c < channels; c++) out[c] = (in[c] - mean) * scale;
    scales[r] = scale;
  }
}

SFMEDIR_VECTOR_CLONES
void sfmedir_standardize_rows_backward(const float *gradient, const float *standardized,
                                       const float *scales, float *out, size_t rows,
                                       size_t channels) {
  const size_t whole = channels / LANES * LANES;
  for (size_t r = 0; r < rows; r++, gradient += channels, standardized += channels, out += channels) {
    lanes sums = {0}, products = {0};
    for (size_t c = 0; c < whole; c += LANES) {
      sums += AT(gradient + c);
      products += AT(gradient + c) * AT(standardized + c);
    }
    float sum = sum_of_lanes(&sums), product = sum_of_lanes(&products);
    for (size_t c = whole; c < channels; c++) {
      sum += gradient[c];
      product += gradient[c] * standardized[c];
    }
    const float mean = sum / (float)channels, slope = product / (float)channels, scale = scales[r];
    for (size_t c = 0; c < whole; c += LANES)
      *(lanes *)(out + c) = (AT(gradient + c) - mean - AT(standardized + c) * slope) * scale;
    for (size_t c = whole; c < channels; c++)
      out[c] = (gradient[c] - mean - standardized[c] * slope) * scale;
  }
}
