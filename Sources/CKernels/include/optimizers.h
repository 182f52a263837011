// Steps of optimizers over a vector of parameters.
#pragma once

#include <stddef.h>

// AdamW (Loshchilov and Hutter, 2019): parameters shrink by `decay`, then both moments follow the gradient, then
// p -= step * m / (sqrt(v) / root + epsilon), where step = rate / (1 - beta1^t) and root = sqrt(1 - beta2^t).
void sfmedir_adamw(float *restrict parameters, const float *restrict gradient, float *restrict first,
                   float *restrict second, size_t count, float decay, float beta1, float beta2, float step,
                   float root, float epsilon);

// Stochastic gradient descent with momentum: v = momentum v + (g + decay p), p -= rate v.
void sfmedir_momentum(float *restrict parameters, const float *restrict gradient, float *restrict velocity,
                      size_t count, float decay, float momentum, float rate);

// out[i] += factor * in[i]
void sfmedir_add_scaled(const float *restrict in, float factor, float *restrict out, size_t count);

// average[i] += share * (in[i] - average[i])
void sfmedir_move_towards(const float *restrict in, float share, float *restrict average, size_t count);

// The sum of squares, added up in double precision.
double sfmedir_sum_of_squares(const float *in, size_t count);
