#include "optimizers.h"

#include "function_clones.h"

SFMEDIR_VECTOR_CLONES
void sfmedir_adamw(float *restrict parameters, const float *restrict gradient, float *restrict first,
                   float *restrict second, size_t count, float decay, float beta1, float beta2, float step,
                   float root, float epsilon) {
  const float keep = 1.0f - decay, inverse_root = 1.0f / root;
  for (size_t i = 0; i < count; i++) {
    const float g = gradient[i];
    const float m = first[i] + (1.0f - beta1) * (g - first[i]);
    const float v = beta2 * second[i] + (1.0f - beta2) * (g * g);
    first[i] = m;
    second[i] = v;
    parameters[i] = parameters[i] * keep - step * m / (__builtin_elementwise_sqrt(v) * inverse_root + epsilon);
  }
}

SFMEDIR_VECTOR_CLONES
void sfmedir_momentum(float *restrict parameters, const float *restrict gradient, float *restrict velocity,
                      size_t count, float decay, float momentum, float rate) {
  for (size_t i = 0; i < count; i++) {
    const float v = momentum * velocity[i] + (gradient[i] + decay * parameters[i]);
    velocity[i] = v;
    parameters[i] -= rate * v;
  }
}

SFMEDIR_VECTOR_CLONES
void sfmedir_add_scaled(const float *restrict in, float factor, float *restrict out, size_t count) {
  for (size_t i = 0; i < count; i++) out[i] += factor * in[i];
}

SFMEDIR_VECTOR_CLONES
void sfmedir_move_towards(const float *restrict in, float share, float *restrict average, size_t count) {
  for (size_t i = 0; i < count; i++) average[i] += share * (in[i] - average[i]);
}

double sfmedir_sum_of_squares(const float *in, size_t count) {
  // Eight chains: one alone would wait for every addition.
  double sums[8] = {0};
  size_t i = 0;
  for (; i + 8 <= count; i += 8)
    for (size_t k = 0; k < 8; k++) sums[k] += (double)in[i + k] * in[i + k];
  for (; i < count; i++) sums[0] += (double)in[i] * in[i];
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}
